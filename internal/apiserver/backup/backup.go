// Package backup is the file in which an API's data is kept elsewhere: a gzipped tar that `tar` and etcd's own tools can read, too.
// First comes manifest.json, then the files of the data directory with the database as etcd's snapshot among them, last
// SHA256, the checksum over the names, sizes and bytes of all before it.
//
// Contract. Read gives every file before it knows whether all of them are whole, so that whoever reads puts them aside until Read has
// returned without error. Names are relative paths that stay below where they are put. A file of a later format is refused
// by name. Nothing here keeps files secret: who writes one chooses its mode.
package backup

import (
	"archive/tar"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path/filepath"
	"time"
)

// Database is the name of etcd's snapshot in a backup.
const Database = "etcd.db"

const (
	format       = 1
	manifestName = "manifest.json"
	checksumName = "SHA256"
)

// Manifest says what a backup is of.
type Manifest struct {
	Format   int       `json:"format"`
	Instance string    `json:"instance"`
	Version  string    `json:"version"` // of the Fairway that wrote it
	Created  time.Time `json:"created"`
	Revision int64     `json:"revision"` // of the database
	Objects  int       `json:"objects"`
}

// Writer writes a backup. Use NewWriter; call Close, which writes the checksum.
type Writer struct {
	zip *gzip.Writer
	tar *tar.Writer
	sum hash.Hash
	at  time.Time
}

// NewWriter begins a backup with its manifest; the format is filled in.
func NewWriter(w io.Writer, m Manifest) (*Writer, error) {
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	b := &Writer{zip: zip, tar: tar.NewWriter(zip), sum: sha256.New(), at: m.Created}
	m.Format = format
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	return b, b.File(manifestName, int64(len(data)), bytes.NewReader(data))
}

// File adds a file of that size. Fewer bytes in r are an error, more are left out.
func (w *Writer) File(name string, size int64, r io.Reader) error {
	if err := w.entry(name, size, io.TeeReader(io.LimitReader(r, size), begin(w.sum, name, size))); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Close ends the backup with its checksum. It does not close what the backup is written to.
func (w *Writer) Close() error {
	sum := hex.EncodeToString(w.sum.Sum(nil)) + "\n"
	if err := w.entry(checksumName, int64(len(sum)), bytes.NewReader([]byte(sum))); err != nil {
		return err
	}
	return errors.Join(w.tar.Close(), w.zip.Close())
}

func (w *Writer) entry(name string, size int64, r io.Reader) error {
	if err := w.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: w.at, Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	n, err := io.Copy(w.tar, r)
	if err == nil && n < size {
		return fmt.Errorf("%d bytes where %d were announced", n, size)
	}
	return err
}

// begin takes a file's name and size into the checksum, and gives what takes its bytes.
func begin(sum hash.Hash, name string, size int64) io.Writer {
	fmt.Fprintf(sum, "%s\x00%d\x00", name, size) // a hash never fails
	return sum
}

// Read reads a backup to its end and hands each file to file, which reads as much of it as it wants. An error says in one line what is
// wrong with the backup, or is file's own.
func Read(r io.Reader, file func(name string, content io.Reader) error) (Manifest, error) {
	var m Manifest
	zip, err := gzip.NewReader(r)
	if err != nil {
		return m, foreign(err)
	}
	sum := sha256.New()
	for files := tar.NewReader(zip); ; {
		header, err := files.Next()
		switch {
		case err != nil && m.Format == 0:
			return m, foreign(err)
		case errors.Is(err, io.EOF):
			return m, errors.New("the backup is cut off: its checksum is missing")
		case err != nil:
			return m, broken(err)
		case header.Name == checksumName && m.Format != 0:
			return m, finish(zip, files, sum)
		}
		content := io.TeeReader(files, begin(sum, header.Name, header.Size))
		switch {
		case m.Format == 0 && header.Name != manifestName:
			return m, foreign(nil)
		case m.Format == 0:
			m, err = readManifest(content)
		case header.Typeflag != tar.TypeReg || !filepath.IsLocal(header.Name) || filepath.Clean(header.Name) != header.Name:
			return m, fmt.Errorf("the backup holds %q, which is no file of Fairway's", header.Name)
		default:
			err = file(header.Name, content)
		}
		if err == nil {
			_, err = io.Copy(io.Discard, content)
		}
		if err != nil {
			return m, broken(err)
		}
	}
}

func readManifest(r io.Reader) (m Manifest, err error) {
	data, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil || m.Format <= 0 {
		return m, foreign(err)
	}
	if m.Format > format {
		return m, fmt.Errorf("the backup has format %d, written by Fairway %s; this one reads up to %d: use a newer Fairway", m.Format, m.Version, format)
	}
	return m, nil
}

// finish compares the checksum, and sees that the file ends where it should: gzip has a checksum of its own there.
func finish(zip *gzip.Reader, files *tar.Reader, sum hash.Hash) error {
	want, err := io.ReadAll(io.LimitReader(files, 1<<10))
	if err != nil {
		return broken(err)
	}
	if string(bytes.TrimSpace(want)) != hex.EncodeToString(sum.Sum(nil)) {
		return errors.New("the backup is damaged: its checksum differs")
	}
	if _, err := io.Copy(io.Discard, zip); err != nil {
		return broken(err)
	}
	return nil
}

// foreign tells of a file that was never a backup.
func foreign(err error) error {
	if err == nil {
		return errors.New("this is no backup of Fairway's")
	}
	return fmt.Errorf("this is no backup of Fairway's (%w)", err)
}

// broken tells damage from what others have to say.
func broken(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("the backup is cut off")
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.Is(err, tar.ErrHeader), errors.As(err, &corrupt):
		return fmt.Errorf("the backup is damaged: %w", err)
	}
	return err
}
