// Package photos holds the photographs that the imaging example works on, embedded, so that a binary with an empty root
// file system around it has them. README.md beside them says who took each one and under which licence.
//
// Contract. All returns the same photographs in the same order on every call. The bytes are shared: read them only.
package photos

import (
	"embed"
	"fmt"
	"path"
)

//go:embed *.jpg *.png
var files embed.FS

// Photo is one photograph as it lies in this folder.
type Photo struct {
	Name   string // file name, for example "cat.png"
	Type   string // media type: image/jpeg or image/png
	Width  int    // pixels
	Height int    // pixels
	Bytes  []byte // the encoded file
}

var all = []Photo{
	load("cat.png", 451, 300),
	load("coffee.jpg", 600, 400),
	load("rocket.jpg", 640, 427),
	load("galaxies.jpg", 800, 698),
	load("camera.jpg", 512, 512),
}

// All returns every photograph.
func All() []Photo { return all }

// load panics on a missing file: the set is fixed when the binary is linked.
func load(name string, width, height int) Photo {
	b, err := files.ReadFile(name)
	if err != nil {
		panic(fmt.Sprintf("photos: read %s: %v", name, err))
	}
	kind := "image/jpeg"
	if path.Ext(name) == ".png" {
		kind = "image/png"
	}
	return Photo{Name: name, Type: kind, Width: width, Height: height, Bytes: b}
}
