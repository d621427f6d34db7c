package logs

import (
	"bytes"
	"slices"
	"time"
)

// record is one piece of what a container printed.
type record struct {
	at      time.Time
	stream  string
	partial bool // the line goes on in the stream's next record
	text    []byte
}

// parse reads "<time> <stream> <tag> <text>"; ok is false for anything else. The text is that of line, not a copy.
func parse(line []byte) (_ record, ok bool) {
	fields := bytes.SplitN(line, []byte(" "), 4)
	if len(fields) != 4 {
		return record{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(fields[0]))
	if err != nil {
		return record{}, false
	}
	return record{at, string(fields[1]), string(fields[2]) == "P", fields[3]}, true
}

// tail keeps the records of the last lines.
type tail struct {
	keep    int
	records []record
	lines   int // ended lines among them
}

func (t *tail) add(r record) error {
	if t.keep == 0 {
		return nil
	}
	r.text = slices.Clone(r.text)
	t.records = append(t.records, r)
	if r.partial {
		return nil
	}
	t.lines++
	for t.lines > t.keep {
		end := slices.IndexFunc(t.records, func(r record) bool { return !r.partial })
		t.records = t.records[end+1:]
		t.lines--
	}
	return nil
}
