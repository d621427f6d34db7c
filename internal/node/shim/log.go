package shim

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxRecord is the longest piece of a line in one record of the log, as in the container runtime interface; what is longer becomes
// several partial records.
const maxRecord = 16 << 10

// logFile is a container's log: records "<time> <stream> <P|F> <text>\n", one write per read of the container's output.
type logFile struct {
	mu    sync.Mutex
	path  string
	limit int64
	file  *os.File
	size  int64
}

func openLog(path string, limit int64) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	l := &logFile{path: path, limit: limit}
	return l, l.open()
}

func (l *logFile) open() error {
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	l.file, l.size = file, info.Size()
	return nil
}

// stream is something that a container prints on.
type stream struct {
	name string
	from io.Reader
	to   func([]byte) // takes the output as it comes, beside the log
}

// collect copies the streams to the log until all have ended; then the channel is closed.
func (l *logFile) collect(streams ...stream) <-chan struct{} {
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, s := range streams {
		all.Go(func() { l.copy(s) })
	}
	go func() {
		all.Wait()
		close(done)
	}()
	return done
}

func (l *logFile) copy(s stream) {
	var records []byte
	buffer := make([]byte, maxRecord)
	filled := 0
	for {
		n, err := s.from.Read(buffer[filled:])
		now := time.Now()
		if n > 0 {
			s.to(buffer[filled : filled+n])
		}
		rest := buffer[:filled+n]
		records = records[:0]
		for {
			line, after, found := bytes.Cut(rest, []byte("\n"))
			if !found {
				break
			}
			records = appendRecord(records, now, s.name, 'F', line)
			rest = after
		}
		if len(rest) == len(buffer) {
			records = appendRecord(records, now, s.name, 'P', rest)
			rest = nil
		}
		if err != nil && len(rest) > 0 { // the last line had no end
			records = appendRecord(records, now, s.name, 'F', rest)
		}
		l.write(records)
		if err != nil {
			return
		}
		filled = copy(buffer, rest)
	}
}

func appendRecord(to []byte, at time.Time, stream string, tag byte, text []byte) []byte {
	to = at.UTC().AppendFormat(to, "2006-01-02T15:04:05.000000000Z07:00")
	to = append(to, ' ')
	to = append(to, stream...)
	to = append(to, ' ', tag, ' ')
	to = append(to, text...)
	return append(to, '\n')
}

// write appends records. A container must not stop because its log cannot be written, so after an error they are lost and the next
// write tries again.
func (l *logFile) write(records []byte) {
	if len(records) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limit > 0 && l.size > 0 && l.size+int64(len(records)) > l.limit {
		err := os.Rename(l.path, l.path+".1")
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			l.file.Close()
			l.file = nil
		}
	}
	if l.file == nil && l.open() != nil {
		return
	}
	n, _ := l.file.Write(records)
	l.size += int64(n)
}
