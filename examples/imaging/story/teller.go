package story

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// Step is one thing that the story did.
type Step struct {
	Name string        `json:"name"`
	At   time.Duration `json:"at"`   // since the start, in nanoseconds
	Took time.Duration `json:"took"` // nanoseconds
}

// teller prints the story, each line with the time since the start. Its methods may be called by any goroutine.
type teller struct {
	begin time.Time

	mu    sync.Mutex
	out   io.Writer
	steps []Step
}

func (t *teller) say(format string, args ...any) { t.line(fmt.Sprintf(format, args...)) }

func (t *teller) line(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, "%7.2fs  %s\n", time.Since(t.begin).Seconds(), s)
}

// step is called when something begins; what it returns is called when that is done, and prints it with the time it took.
func (t *teller) step(format string, args ...any) (done func()) {
	name, begin := fmt.Sprintf(format, args...), time.Now()
	return func() {
		took := time.Since(begin)
		t.mu.Lock()
		t.steps = append(t.steps, Step{Name: name, At: begin.Sub(t.begin), Took: took})
		t.mu.Unlock()
		t.say("%s  (%s)", name, short(took))
	}
}

// quote is a writer whose lines are told with a prefix: the output of a program that runs beside the story.
func (t *teller) quote(prefix string) io.Writer { return &quoter{t: t, prefix: prefix} }

type quoter struct {
	t      *teller
	prefix string

	mu   sync.Mutex
	rest []byte
}

func (q *quoter) Write(b []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rest = append(q.rest, b...)
	for {
		line, rest, found := bytes.Cut(q.rest, []byte("\n"))
		if !found {
			return len(b), nil
		}
		q.t.line(q.prefix + string(bytes.TrimRight(line, "\r ")))
		q.rest = rest
	}
}

// short is a duration that a person reads: three digits at most.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}
