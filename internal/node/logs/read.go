package logs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Options choose what to read; the zero value is all of it.
type Options struct {
	Follow     bool
	Timestamps bool
	Since      time.Time // only what was printed at or after this time
	Tail       int64     // only that many lines from the end; negative: all. See All
	Limit      int64     // at most that many bytes; 0: no limit
	Stream     string    // "stdout" or "stderr"; empty: both
}

// All is the Tail that reads everything.
const All = -1

// errLimit ends a read that has given as much as it may.
var errLimit = errors.New("limit reached")

// Read copies the log at path to out. The channel is closed when the container has ended; it matters only when following. An
// out with a method Flush() has it called when there is nothing more for now.
func Read(ctx context.Context, path string, o Options, ended <-chan struct{}, out io.Writer) error {
	r := &reader{Options: o, path: path, out: out, lineStart: true}
	err := r.read(ctx, ended)
	if errors.Is(err, errLimit) {
		err = nil
	}
	return err
}

type reader struct {
	Options
	path      string
	out       io.Writer
	emit      func(record) error // takes each record that is wanted
	pending   []byte             // the beginning of a record whose end is not written yet
	written   int64
	lineStart bool // what is written next begins a line
}

func (r *reader) read(ctx context.Context, ended <-chan struct{}) error {
	var changes <-chan struct{}
	if r.Follow { // before the first read, so that nothing falls between
		watch, err := watchDir(filepath.Dir(r.path))
		if err != nil {
			return err
		}
		defer watch.close()
		changes = watch.changes
	}
	last := tail{keep: int(r.Tail)}
	r.emit = r.write
	if r.Tail >= 0 {
		r.emit = last.add
	}
	old, err := openOrNil(r.path + ".1")
	if err != nil {
		return err
	}
	if old != nil {
		err = r.consume(old)
		old.Close()
		if err != nil {
			return err
		}
	}
	file, err := r.next(nil)
	defer func() {
		if file != nil {
			file.Close()
		}
	}()
	if err != nil {
		return err
	}
	r.emit = r.write
	for _, rec := range last.records {
		if err := r.write(rec); err != nil {
			return err
		}
	}
	r.flush()
	for over := false; r.Follow && !over; {
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			over = true // after what came last
		case <-changes:
		}
		if file, err = r.next(file); err != nil {
			return err
		}
		r.flush()
	}
	return nil
}

// next reads on in file and, if that was moved aside, in the one that took its place, which it returns.
func (r *reader) next(file *os.File) (*os.File, error) {
	for {
		moved := false
		if file != nil {
			var err error
			if moved, err = r.movedAside(file); err != nil {
				return file, err
			}
			// After the question: what was written before the move is in here.
			if err := r.consume(file); err != nil || !moved {
				return file, err
			}
			file.Close()
		}
		var err error
		if file, err = openOrNil(r.path); err != nil || file == nil {
			return nil, err
		}
		r.pending = nil
	}
}

func (r *reader) movedAside(file *os.File) (bool, error) {
	now, err := os.Stat(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	was, err := file.Stat()
	return err == nil && !os.SameFile(was, now), err
}

// consume reads a file to its present end.
func (r *reader) consume(file *os.File) error {
	buffer := make([]byte, 64<<10)
	for {
		n, err := file.Read(buffer)
		r.pending = append(r.pending, buffer[:n]...)
		rest := r.pending
		for {
			line, after, found := bytes.Cut(rest, []byte("\n"))
			if !found {
				break
			}
			rest = after
			if rec, ok := parse(line); ok && r.wants(rec) {
				if err := r.emit(rec); err != nil {
					return err
				}
			}
		}
		r.pending = append(r.pending[:0], rest...)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *reader) wants(rec record) bool {
	return !rec.at.Before(r.Since) && (r.Stream == "" || r.Stream == rec.stream)
}

// write gives a record's text out, as much as the limit lets through.
func (r *reader) write(rec record) error {
	var text []byte
	if r.Timestamps && r.lineStart {
		text = append(rec.at.AppendFormat(text, time.RFC3339Nano), ' ')
	}
	text = append(text, rec.text...)
	if r.lineStart = !rec.partial; r.lineStart {
		text = append(text, '\n')
	}
	over := r.Limit > 0 && r.written+int64(len(text)) > r.Limit
	if over {
		text = text[:r.Limit-r.written]
	}
	n, err := r.out.Write(text)
	r.written += int64(n)
	if err == nil && over {
		err = errLimit
	}
	return err
}

func (r *reader) flush() {
	if f, ok := r.out.(interface{ Flush() }); ok {
		f.Flush()
	}
}

func openOrNil(path string) (*os.File, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return file, err
}
