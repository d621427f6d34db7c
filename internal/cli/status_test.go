package cli

import (
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/app"
)

// TestWriteStatus holds what `fairway status` prints to the letter.
func TestWriteStatus(t *testing.T) {
	t.Parallel()
	started := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	well := app.Status{
		Name: "default", Role: "stand-alone", Version: "1.0.0", PID: 4711, Started: started,
		API: "https://127.0.0.1:6443", Revision: 42, Services: 3, Endpoints: app.EndpointCount{Ready: 6, NotReady: 1, Terminating: 2},
		Consumers: []app.ConsumerStatus{{Name: "dns", Revision: 42}, {Name: "ingress", Revision: 42}, {Name: "nft", Revision: 42}},
		Listeners: []app.Listener{{What: "dns", Addr: "10.244.0.1:10053"}, {What: "http", Addr: "127.0.0.1:80"}, {What: "https", Addr: "127.0.0.1:443"}},
		MemoryRSS: 98 << 20,
	}
	ill := well
	ill.Waiting = []string{"endpointslices", "services"}
	ill.Revision = 43
	ill.Consumers = []app.ConsumerStatus{{Name: "dns", Revision: 43}, {Name: "nft", Revision: 41, Error: "no space"}, {Name: "other", Revision: 40}}
	ill.Listeners = nil
	ill.Problems = []string{"source services: no first list from the API yet", "nft: no space"}
	odd := well
	odd.Objects = []string{"nft: Service b/y: the older one has it", "ingress: Ingress a/x: no Secret"}
	for _, c := range []struct {
		name   string
		status app.Status
		want   string
	}{
		{"well", well, `
Fairway   default                     stand-alone, 1.0.0, pid 4711, up 1h30m0s, 98 MiB
API       https://127.0.0.1:6443      synced at revision 42
Services  3                           6 endpoints ready, 1 not ready, 2 terminating
DNS       10.244.0.1:10053            revision 42
Ingress   127.0.0.1:80 127.0.0.1:443  revision 42
Kernel                                revision 42
`},
		{"odd", odd, `
Fairway   default                     stand-alone, 1.0.0, pid 4711, up 1h30m0s, 98 MiB
API       https://127.0.0.1:6443      synced at revision 42
Services  3                           6 endpoints ready, 1 not ready, 2 terminating
DNS       10.244.0.1:10053            revision 42
Ingress   127.0.0.1:80 127.0.0.1:443  revision 42
Kernel                                revision 42

Objects not in force as they are:
  ingress: Ingress a/x: no Secret
  nft: Service b/y: the older one has it
`},
		{"ill", ill, `
Fairway   default                 stand-alone, 1.0.0, pid 4711, up 1h30m0s, 98 MiB
API       https://127.0.0.1:6443  waiting for endpointslices, services at revision 43
Services  3                       6 endpoints ready, 1 not ready, 2 terminating
DNS                               revision 43
Kernel                            FAILED, last in force: revision 41, 2 behind
other                             revision 40, 3 behind

Problems:
  nft: no space
  source services: no first list from the API yet
`},
	} {
		var out strings.Builder
		if err := writeStatus(&out, &c.status, started.Add(90*time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got := "\n" + out.String(); got != c.want {
			t.Errorf("%s:%s\nwant:%s", c.name, got, c.want)
		}
	}
}
