package pki

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The key is made once, for its owner alone; one that is damaged is an error, and not replaced.
func TestSigningKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	first, err := a.SigningKey("tokens")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tokens.key")
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	second, err := a.SigningKey("tokens")
	if err != nil || !first.Equal(second) {
		t.Errorf("another key: %v", err)
	}
	for _, content := range []string{"", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := a.SigningKey("tokens"); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", content, err)
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != content {
			t.Errorf("%q was replaced", content)
		}
	}
}
