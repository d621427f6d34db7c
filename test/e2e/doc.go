// Package e2e tries the whole binary as a user does: scripts of commands (testdata/*.txtar), README.md to the letter, and the story, each
// in a network namespace of its own, so that they run beside each other and beside a developer's own Fairway.
//
// Contract. The tests need root and the binary: $FAIRWAY, or bin/fairway of this tree. Each one ends with the check that nothing
// is left: no process, namespace, rule, link, route or mount. To debug one, run it alone with -v; its log holds every command
// with what it printed:
//
//	go test -v -run TestScript/service-udp ./test/e2e
//
// # Scripts
//
// Behaviour is held by scripts; Go is for what they cannot say (loads, two machines, the story). A script is a file of
// github.com/rogpeppe/go-internal/testscript: a comment on top that says what it proves, lines of commands, and files. The machine has nothing
// but a loopback device at first; $NAME is the instance's name, $DATA its data directory, $FAIRWAY the binary. Besides testscript's own commands there are
//
//	up FLAGS...             fairway up in the background, until it is up
//	end term|int|kill       the signal for it, and its end
//	fairway ARGS...         the binary
//	kubectl ARGS... [< FILE]  the kubectl inside, with the file as its input
//	beside [-match RE] ARGS...  kubectl in the background, from when it has printed something, or that
//	alone [kill|wait]       its end, and all that it has printed
//	processes TEXT          prints the processes whose command line holds the text; fails if there is none
//	tools IMAGE             an image with a shell, tar and a few more
//	nobody ARGS...          the binary as a user without rights
//	left                    prints what is there that was not before
//	kernel                  prints what Fairway's tables hold for Services, sorted
//	nft, ip ARGS...         inside the namespace, as are all of the following
//	sysctl KEY=VALUE        a setting of the machine
//	listen ADDRESS          a port that is taken
//	dig ARGS...             asks the cluster's DNS, or another @SERVER
//	get URL [HOST]          HTTP, as HOST if given; the body on stdout, status, certificate and headers on stderr; fails from status 400 on
//	websocket URL TEXT      a message over a WebSocket; the one that comes back on stdout
//	udp ADDRESS TEXT        a datagram; the one that comes back on stdout
//	cert FILE SUBJECT NAME...  FILE.crt and FILE.key
//	web IMAGE...            builds the server ./web as images: it answers with its Pod's name
//	client IMAGE...         builds ./client as images: it uses the API as a program in a Pod does
//	oci DIR NAME, tarball FILE NAME, registry NAME...  the same server as images from elsewhere
//
// and three that take a command:
//
//	until [!] [-match RE | -nomatch RE | -same FILE] COMMAND...  again and again, until it succeeds (fails) and prints that
//	let NAME COMMAND...     what it prints becomes $NAME
//	? COMMAND...            it may fail
package e2e
