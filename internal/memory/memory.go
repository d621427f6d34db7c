// Package memory keeps what a process holds of the machine's memory to what it needs. It is the same for Fairway and for a benchmark that runs
// a part of it.
package memory

import (
	"bufio"
	"context"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settleAfter is when the rush of a start is over.
const settleAfter = 2 * time.Second

// Settle gives back, once, the memory that only the start needed: heap that is free now, and pages of the program itself that initialisation
// has touched (all of Kubernetes' types are built then). Those are clean copies of the file; what is needed again comes back
// from the page cache. It waits until the rush is over, and then does nothing until ctx ends; it returns its error.
func Settle(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settleAfter):
	}
	debug.FreeOSMemory()
	dropProgramPages()
	<-ctx.Done()
	return ctx.Err()
}

// dropProgramPages unmaps the read-only pages of this program. It is advice, so nothing depends on its success.
func dropProgramPages() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 6 || f[5] != self || strings.Contains(f[1], "w") {
			continue
		}
		if start, end, ok := parseRange(f[0]); ok {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED)
		}
	}
}

// parseRange reads an address range of /proc/self/maps: two hexadecimal numbers with a dash between.
func parseRange(s string) (start, end uintptr, ok bool) {
	a, b, ok := strings.Cut(s, "-")
	if !ok {
		return 0, 0, false
	}
	x, err1 := strconv.ParseUint(a, 16, 64)
	y, err2 := strconv.ParseUint(b, 16, 64)
	return uintptr(x), uintptr(y), err1 == nil && err2 == nil && y > x
}
