package image

import (
	"context"
	"fmt"
	"runtime"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Pull fetches an image from its registry and stores it under its name, in place of an image that had the name before.
// Credentials come from the user's docker configuration. A registry on loopback is spoken to without TLS.
func (s *Store) Pull(ctx context.Context, image string) (Image, error) {
	ref, err := name.ParseReference(image)
	if err != nil {
		return Image{}, fmt.Errorf("image name %q: %w", image, err)
	}
	img, err := remote.Image(ref,
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}),
		remote.WithUserAgent("fairway"),
	)
	if err != nil {
		return Image{}, fmt.Errorf("image %s: pull: %w", image, err)
	}
	return s.add(image, img, false)
}
