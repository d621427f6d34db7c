package logs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fairway.dev/fairway/internal/node/logs"
)

const sample = `2026-01-01T00:00:01.000000000Z stdout F one
2026-01-01T00:00:02.000000000Z stderr F two
2026-01-01T00:00:03.000000000Z stdout P thr
2026-01-01T00:00:03.500000000Z stdout F ee
not a record
2026-01-01T00:00:04.000000000Z stdout F four
`

func TestRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")
	older, newer, _ := strings.Cut(sample, "2026-01-01T00:00:03.5")
	write(t, path+".1", older)
	write(t, path, "2026-01-01T00:00:03.5"+newer)
	for _, test := range []struct {
		name    string
		options logs.Options
		want    string
	}{
		{"all", logs.Options{Tail: logs.All}, "one\ntwo\nthree\nfour\n"},
		{"none", logs.Options{}, ""},
		{"last line", logs.Options{Tail: 1}, "four\n"},
		{"last lines, one in two records", logs.Options{Tail: 2}, "three\nfour\n"},
		{"more than there are", logs.Options{Tail: 9}, "one\ntwo\nthree\nfour\n"},
		{"one stream", logs.Options{Tail: logs.All, Stream: "stderr"}, "two\n"},
		{"since", logs.Options{Tail: logs.All, Since: time.Date(2026, 1, 1, 0, 0, 4, 0, time.UTC)}, "four\n"},
		{"limit", logs.Options{Tail: logs.All, Limit: 5}, "one\nt"},
		{"times", logs.Options{Tail: 2, Timestamps: true}, "2026-01-01T00:00:03Z three\n2026-01-01T00:00:04Z four\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := logs.Read(t.Context(), path, test.options, nil, &out); err != nil || out.String() != test.want {
				t.Errorf("%q, error %v, want %q", out.String(), err, test.want)
			}
		})
	}
}

// output is a buffer that a test can wait on.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) until(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		o.mu.Lock()
		got := o.text.String()
		o.mu.Unlock()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q, want %q", got, want)
		}
	}
}

func TestFollowAcrossMoveUntilTheEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "logs", "0.log")
	var out output
	ended, read := make(chan struct{}), make(chan error)
	go func() { read <- logs.Read(t.Context(), path, logs.Options{Follow: true, Tail: logs.All}, ended, &out) }()
	stamp := "2026-01-01T00:00:01.000000000Z stdout F "
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, path, stamp+"one\n"+stamp+"tw")
	out.until(t, "one\n")
	write(t, path, "o\n")
	out.until(t, "one\ntwo\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(t, path, stamp+"three\n")
	out.until(t, "one\ntwo\nthree\n")
	write(t, path, stamp+"four\n")
	close(ended)
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	out.until(t, "one\ntwo\nthree\nfour\n")
}

// write appends text to a file.
func write(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
}
