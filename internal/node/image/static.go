package image

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
)

// checkStatic refuses a binary that could not run alone in an image: another machine's, or one that wants a dynamic
// loader.
func checkStatic(path string) error {
	file, err := elf.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("binary: %w", err)
	}
	if err != nil {
		return fmt.Errorf("binary %s: not a Linux program (ELF): %w", path, err)
	}
	defer file.Close()
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	if want, known := machines[runtime.GOARCH]; known && file.Machine != want {
		return fmt.Errorf("binary %s: is for %s, this machine is %s", path, file.Machine, runtime.GOARCH)
	}
	for _, program := range file.Progs {
		if program.Type == elf.PT_INTERP {
			return fmt.Errorf("binary %s: is dynamically linked; build it with CGO_ENABLED=0 or link it statically", path)
		}
	}
	return nil
}
