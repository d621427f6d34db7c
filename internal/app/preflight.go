package app

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// minKernel is the first kernel with everything that the ruleset uses: concatenated keys with a computed part in maps.
var minKernel = [2]int{5, 13}

// preflight says, in one line, what this machine lacks for running Fairway, before anything is touched.
// It gives the path of the OCI runtime, if one is asked for.
func preflight(runtime string) (path string, err error) {
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("this needs root, for network namespaces, nftables and containers; run it with sudo")
	}
	if err := checkKernel(); err != nil {
		return "", err
	}
	if runtime != "" {
		if path, err = exec.LookPath(runtime); err != nil {
			return "", fmt.Errorf("%s is not installed, and Pods are run by it; install it ('apt-get install runc' on Debian) or name another one with --runtime", runtime)
		}
	}
	c, err := nftables.New()
	if err == nil {
		_, err = c.ListTables()
	}
	if err != nil {
		return "", fmt.Errorf("nftables: %w; this kernel was built without it, or this container may not use it (it needs CAP_NET_ADMIN)", err)
	}
	return path, nil
}

func checkKernel() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	return kernelAtLeast(release, minKernel)
}

// kernelAtLeast compares a release such as "6.1.0-18-amd64" with major.minor.
func kernelAtLeast(release string, want [2]int) error {
	parts := strings.SplitN(release, ".", 3)
	if len(parts) >= 2 {
		major, err1 := strconv.Atoi(parts[0])
		digits := strings.IndexFunc(parts[1], func(r rune) bool { return r < '0' || r > '9' })
		if digits >= 0 {
			parts[1] = parts[1][:digits]
		}
		minor, err2 := strconv.Atoi(parts[1])
		if err1 == nil && err2 == nil {
			if major > want[0] || major == want[0] && minor >= want[1] {
				return nil
			}
			return fmt.Errorf("this kernel is %s, and Fairway needs %d.%d or later; Debian 12 has 6.1", release, want[0], want[1])
		}
	}
	return nil // a release nobody can read is no reason to refuse: what is missing will say so itself
}

// checkFamilies refuses IPv6 ranges where the kernel has IPv6 switched off, before an address is refused in the middle of a start.
func checkFamilies(services, pods []netip.Prefix) error {
	six := func(p netip.Prefix) bool { return p.Addr().Is6() }
	if !slices.ContainsFunc(pods, six) {
		return nil
	}
	off, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	if err == nil && strings.TrimSpace(string(off)) == "0" {
		return nil
	}
	return fmt.Errorf("IPv6 is switched off on this machine (net.ipv6.conf.all.disable_ipv6); give IPv4 ranges alone: --pod-cidr %s --service-cidr %s",
		joinOr(slices.DeleteFunc(slices.Clone(pods), six), "10.244.0.0/24"), joinOr(slices.DeleteFunc(slices.Clone(services), six), "10.96.0.0/16"))
}
