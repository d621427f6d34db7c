package backup

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"time"
)

func written(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, Manifest{Instance: "a", Version: "v1", Created: time.Unix(1, 0).UTC(), Revision: 7, Objects: 2})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := w.File(name, int64(len(content)), strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(data []byte) (map[string]string, Manifest, error) {
	files := map[string]string{}
	m, err := Read(bytes.NewReader(data), func(name string, content io.Reader) error {
		b, err := io.ReadAll(content)
		files[name] = string(b)
		return err
	})
	return files, m, err
}

// random is text that does not compress, so that damage anywhere is damage to something.
func random(n int) string {
	var s strings.Builder
	x := uint64(88172645463325252)
	for s.Len() < n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		fmt.Fprintf(&s, "%x", x)
	}
	return s.String()[:n]
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	files := map[string]string{Database: random(100_000), "pki/ca.key": "secret", "empty": ""}
	got, m, err := read(written(t, files))
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, files) {
		t.Errorf("%d files read; want the %d that were written", len(got), len(files))
	}
	if want := (Manifest{Format: format, Instance: "a", Version: "v1", Created: time.Unix(1, 0).UTC(), Revision: 7, Objects: 2}); m != want {
		t.Errorf("manifest %+v, want %+v", m, want)
	}
}

// A backup of which anything is missing or different is never taken for whole.
func TestDamageIsSeen(t *testing.T) {
	t.Parallel()
	whole := written(t, map[string]string{Database: random(3000), "pki/ca.key": "secret"})
	for cut := range len(whole) {
		if _, _, err := read(whole[:cut]); err == nil {
			t.Fatalf("cut off after %d of %d bytes: no error", cut, len(whole))
		} else if strings.Contains(err.Error(), "\n") {
			t.Fatalf("cut off after %d bytes: %q is not one line", cut, err)
		}
	}
	const header = 10 // gzip's: its time and system are free
	for at := header; at < len(whole); at++ {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 0x10
		files, m, err := read(damaged)
		if err == nil && (files["pki/ca.key"] != "secret" || files[Database] != random(3000) || m.Revision != 7) {
			t.Fatalf("a different byte %d of %d: no error, and other content", at, len(whole))
		}
	}
}

// What is no backup, or one that may not be unpacked, says so.
func TestForeign(t *testing.T) {
	t.Parallel()
	zipped := func(s string) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write([]byte(s))
		_ = z.Close()
		return b.Bytes()
	}
	for what, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":       {nil, "no backup"},
		"text":          {[]byte(strings.Repeat("text ", 1000)), "no backup"},
		"gzipped text":  {zipped(strings.Repeat("text ", 1000)), "no backup"},
		"gzip of none":  {zipped(""), "no backup"},
		"way out":       {written(t, map[string]string{"../etc/passwd": "x"}), "no file of Fairway's"},
		"absolute":      {written(t, map[string]string{"/etc/passwd": "x"}), "no file of Fairway's"},
		"not canonical": {written(t, map[string]string{"a//b": "x"}), "no file of Fairway's"},
	} {
		if _, _, err := read(c.data); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want one line with %q", what, err, c.want)
		}
	}
	var later bytes.Buffer
	w, err := NewWriter(&later, Manifest{})
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	raw, err := gzip.NewReader(&later)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(raw)
	if err != nil {
		t.Fatal(err)
	}
	newer := zipped(strings.Replace(string(plain), `"format": 1`, `"format": 9`, 1))
	if _, _, err := read(newer); err == nil || !strings.Contains(err.Error(), "use a newer Fairway") {
		t.Errorf("a later format: %v", err)
	}
}
