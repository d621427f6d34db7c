package app

import (
	"context"
	"errors"
	"fmt"
	"os"

	"fairway.dev/fairway/internal/node/image"
)

// ImageBuild says what is in an image that is made of one program.
type ImageBuild struct {
	Binary    string
	Env, Args []string
}

// Image is one image of the store.
type Image struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"` // bytes, compressed
}

func openImages(i Instance) (*image.Store, error) {
	if err := os.MkdirAll(i.DataDir, 0o711); err != nil {
		return nil, notRoot(err)
	}
	s, err := image.Open(i.Images())
	return s, notRoot(err)
}

func notRoot(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w; images belong to root, run it with sudo", err)
	}
	return err
}

// BuildImage makes an image of one static program and returns its digest.
func BuildImage(i Instance, name string, b ImageBuild) (string, error) {
	s, err := openImages(i)
	if err != nil {
		return "", err
	}
	img, err := s.Build(name, image.BuildOptions{Binary: b.Binary, Env: b.Env, Cmd: b.Args})
	if err != nil {
		return "", err
	}
	return img.Digest, nil
}

// ImportImages imports an OCI layout or a tarball and returns the names it held.
func ImportImages(i Instance, path string) (names []string, err error) {
	s, err := openImages(i)
	if err != nil {
		return nil, err
	}
	images, err := s.Import(path, "")
	for _, img := range images {
		names = append(names, img.Name)
	}
	return names, err
}

// PullImage pulls an image from its registry.
func PullImage(ctx context.Context, i Instance, name string) error {
	s, err := openImages(i)
	if err != nil {
		return err
	}
	_, err = s.Pull(ctx, name)
	return err
}

// ListImages lists the images, ordered by name.
func ListImages(i Instance) ([]Image, error) {
	if _, err := os.Stat(i.Images()); errors.Is(err, os.ErrNotExist) {
		return []Image{}, nil
	}
	s, err := openImages(i)
	if err != nil {
		return nil, err
	}
	have, err := s.List()
	out := make([]Image, 0, len(have))
	for _, img := range have {
		out = append(out, Image{img.Name, img.Digest, img.Size})
	}
	return out, err
}

// RemoveImage takes the name from an image, and removes one that has no other; it fails while a container runs on that.
func RemoveImage(i Instance, name string) error {
	s, err := openImages(i)
	if err != nil {
		return err
	}
	return s.Remove(name)
}
