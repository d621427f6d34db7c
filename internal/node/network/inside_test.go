package network_test

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// inside runs f on a thread in the network namespace at path, or here if that is empty.
func inside(t *testing.T, path string, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		if path != "" {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			file, err := os.Open(path)
			if err == nil {
				err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
				file.Close()
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
