package dns_test

import "fairway.dev/fairway/internal/testkit/questions"

// What the tests of this room share with those that ask other servers the same.
var (
	ip, ips, name               = questions.IP, questions.IPs, questions.Name
	service, headless, external = questions.Service, questions.Headless, questions.External
	slice, fixture              = questions.Slice, questions.Fixture
	load, mustUpdate            = questions.Load, questions.Update
	message, exchange, render   = questions.Message, questions.Exchange, questions.Render
	upstream, bothSockets       = questions.Serve, questions.BothSockets
	standardUpstream            = questions.Upstream
)
