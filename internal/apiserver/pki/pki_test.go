package pki

import (
	"bytes"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var server = Leaf{Name: "s", CommonName: "server", Server: true, DNSNames: []string{"localhost"}, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}}

// A leaf is kept as long as it says what is asked for, and issued again otherwise; the authority stays the same.
func TestLeafIsKeptOrRenewed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, test := range []struct {
		what   string
		change func(dir string, want *Leaf, now *time.Time)
		kept   bool
	}{
		{"nothing", func(string, *Leaf, *time.Time) {}, true},
		{"another address", func(_ string, want *Leaf, _ *time.Time) {
			want.Addresses = append(want.Addresses, netip.MustParseAddr("10.96.0.1"))
		}, false},
		{"one address less", func(_ string, want *Leaf, _ *time.Time) { want.Addresses = want.Addresses[:1] }, false},
		{"another name", func(_ string, want *Leaf, _ *time.Time) { want.DNSNames = []string{"kubernetes"} }, false},
		{"another user", func(_ string, want *Leaf, _ *time.Time) { want.CommonName = "other" }, false},
		{"a group", func(_ string, want *Leaf, _ *time.Time) { want.Groups = []string{"g"} }, false},
		{"for clients", func(_ string, want *Leaf, _ *time.Time) { want.Server = false }, false},
		{"half a year", func(_ string, _ *Leaf, now *time.Time) { *now = now.AddDate(0, 6, 0) }, true},
		{"ten months", func(_ string, _ *Leaf, now *time.Time) { *now = now.AddDate(0, 10, 0) }, false},
		{"a clock set back", func(_ string, _ *Leaf, now *time.Time) { *now = now.AddDate(-1, 0, 0) }, false},
		{"a lost key", func(dir string, _ *Leaf, _ *time.Time) { _ = os.Remove(filepath.Join(dir, "s.key")) }, false},
		{"a broken certificate", func(dir string, _ *Leaf, _ *time.Time) {
			_ = os.WriteFile(filepath.Join(dir, "s.crt"), []byte("x"), 0o600)
		}, false},
	} {
		dir, clock, want := t.TempDir(), now, server
		first, err := open(dir, func() time.Time { return clock })
		if err != nil {
			t.Fatal(err)
		}
		before, err := first.Leaf(want)
		if err != nil {
			t.Fatal(err)
		}
		test.change(dir, &want, &clock)
		second, err := open(dir, func() time.Time { return clock })
		if err != nil {
			t.Fatal(err)
		}
		after, err := second.Leaf(want)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.CertPEM(), second.CertPEM()) {
			t.Errorf("%s: the authority changed", test.what)
		}
		if kept := bytes.Equal(before.CertPEM, after.CertPEM); kept != test.kept {
			t.Errorf("%s: kept %v, want %v", test.what, kept, test.kept)
		}
		verify(t, second, after, want, clock)
	}
}

// verify checks a leaf the way a peer would.
func verify(t *testing.T, a *Authority, pair Pair, want Leaf, now time.Time) {
	t.Helper()
	parsed, err := pair.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsed.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), KeyUsages: usage(want.Server), CurrentTime: now}); err != nil && !now.Before(time.Now().AddDate(0, -1, 0)) {
		t.Errorf("%+v: %v", want, err)
	}
	for _, addr := range want.Addresses {
		if err := parsed.Leaf.VerifyHostname(addr.String()); err != nil {
			t.Error(err)
		}
	}
	stored, err := os.ReadFile(pair.CertFile)
	if err != nil || !bytes.Equal(stored, pair.CertPEM) {
		t.Errorf("what is stored is not what was returned: %v", err)
	}
	for _, file := range []string{pair.CertFile, pair.KeyFile} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
}

// A damaged or expired authority is never replaced silently.
func TestAuthorityIsNotReplaced(t *testing.T) {
	t.Parallel()
	for what, damage := range map[string]func(dir string, clock *time.Time){
		"no key":           func(dir string, _ *time.Time) { _ = os.Remove(filepath.Join(dir, "ca.key")) },
		"an empty key":     func(dir string, _ *time.Time) { _ = os.WriteFile(filepath.Join(dir, "ca.key"), nil, 0o600) },
		"a foreign key":    func(dir string, _ *time.Time) { foreignKey(t, dir) },
		"an old authority": func(_ string, clock *time.Time) { *clock = clock.AddDate(11, 0, 0) },
	} {
		dir, clock := t.TempDir(), time.Now()
		if _, err := Open(dir); err != nil {
			t.Fatal(err)
		}
		damage(dir, &clock)
		if _, err := open(dir, func() time.Time { return clock }); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

func foreignKey(t *testing.T, dir string) {
	t.Helper()
	other := t.TempDir()
	if _, err := Open(other); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(other, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
}
