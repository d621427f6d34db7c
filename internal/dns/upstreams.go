package dns

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// recheck is how often the resolv.conf and the machine's addresses are looked at, when a question for upstreams comes.
const recheck = 2 * time.Second

// upstreams is the list of resolvers, read anew when its file changes. Those that are this server itself are left out: a
// question would never end.
type upstreams struct {
	fixed []netip.AddrPort
	path  string
	log   *slog.Logger
	self  func(netip.AddrPort) bool

	list   atomic.Pointer[[]netip.AddrPort]
	reads  atomic.Int64 // when it was last looked at, in Unix nanoseconds
	mu     sync.Mutex   // held while looking; guards text and before
	text   []byte
	before string
}

// get gives the usable resolvers in order.
func (u *upstreams) get() []netip.AddrPort {
	if last := u.reads.Load(); time.Now().UnixNano()-last >= int64(recheck) && u.reads.CompareAndSwap(last, time.Now().UnixNano()) {
		u.look()
	}
	return *u.list.Load()
}

// look reads the file, if it is one, and publishes the list.
func (u *upstreams) look() {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.fixed
	if len(all) == 0 && u.path != "" {
		text, err := os.ReadFile(u.path)
		if err != nil {
			u.note(fmt.Sprintf("dns: read %s: %v; the resolvers read before stay", u.path, err))
			text = u.text
		}
		u.text = text
		all = parseResolvConf(text)
	}
	usable := make([]netip.AddrPort, 0, len(all))
	for _, a := range all {
		if u.self(a) {
			u.note(fmt.Sprintf("dns: resolver %s is this server itself: not asked", a))
			continue
		}
		usable = append(usable, a)
	}
	u.list.Store(&usable)
}

// note logs a message once until another one comes.
func (u *upstreams) note(message string) {
	if message != u.before {
		u.log.Warn(message)
		u.before = message
	}
}

// parseResolvConf gives the nameservers of a resolv.conf(5), each with port 53; lines that make no sense are passed over, as
// the C library does.
func parseResolvConf(text []byte) []netip.AddrPort {
	var out []netip.AddrPort
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			out = append(out, netip.AddrPortFrom(a.Unmap(), 53))
		}
	}
	return out
}
