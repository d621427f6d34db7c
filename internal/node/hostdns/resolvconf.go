package hostdns

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// marks are the first and the last line of the block.
func (c Config) marks() (begin, end string) {
	return fmt.Sprintf("# Fairway %q put this here until it ends\n", c.Instance), fmt.Sprintf("# end of Fairway %q\n", c.Instance)
}

// addBlock puts the cluster's servers before those that are there, which stay: they are asked while Fairway does not answer.
func (c Config) addBlock() error {
	info, err := os.Lstat(c.File)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not there, so its other servers are not known", c.File)
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		to, _ := os.Readlink(c.File)
		return fmt.Errorf("%s is a link to %s, which another program writes; tell that program to ask %s for %s", c.File, to, c.Server, c.Domain)
	}
	text, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	text, _ = c.without(text)
	begin, end := c.marks()
	block := begin
	for _, a := range c.ClusterDNS[:min(1, len(c.ClusterDNS))] { // one: resolvers read no more than three servers
		block += "nameserver " + a.String() + "\n"
	}
	return replace(c.File, append([]byte(block+end), text...), info.Mode().Perm())
}

// removeBlock takes the block away, and leaves the rest of the file as it is now.
func (c Config) removeBlock() error {
	info, err := os.Lstat(c.File)
	if err != nil || !info.Mode().IsRegular() {
		return nil // it was never there
	}
	text, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	rest, had := c.without(text)
	if !had {
		return nil
	}
	return replace(c.File, rest, info.Mode().Perm())
}

// without gives the text without the instance's block. A block whose end somebody has removed is the lines that Fairway writes.
func (c Config) without(text []byte) (rest []byte, had bool) {
	begin, end := c.marks()
	at := bytes.Index(text, []byte(begin))
	if at < 0 {
		return text, false
	}
	before, after := text[:at:at], text[at+len(begin):]
	if n := bytes.Index(after, []byte(end)); n >= 0 {
		return append(before, after[n+len(end):]...), true
	}
	for _, a := range c.ClusterDNS {
		line := []byte("nameserver " + a.String() + "\n")
		after = bytes.TrimPrefix(after, line)
	}
	return append(before, after...), true
}

// replace writes a file that readers see as it was or as it is. Where the file is a mount of its own, as in containers, it cannot be replaced, and is written in place.
func replace(path string, text []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+strings.TrimPrefix(filepath.Base(path), ".")+".fairway-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already if all went well
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = os.Rename(f.Name(), path)
	if errors.Is(err, syscall.EBUSY) {
		err = os.WriteFile(path, text, mode)
	}
	return err
}
