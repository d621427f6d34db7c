package image

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Normalize gives the form under which the store keeps a name: the default registry and its "library/" left out, and
// ":latest" added where there is neither tag nor digest.
func Normalize(image string) (string, error) {
	ref, err := name.ParseReference(image)
	if err == nil && strings.HasPrefix(image, "/") {
		err = errors.New("it begins with a slash")
	}
	if err != nil {
		return "", fmt.Errorf("image name %q: %w", image, err)
	}
	repository := ref.Context().RepositoryStr()
	if registry := ref.Context().RegistryStr(); registry != name.DefaultRegistry {
		repository = registry + "/" + repository
	} else {
		repository = strings.TrimPrefix(repository, "library/")
	}
	if digest, ok := ref.(name.Digest); ok {
		return repository + "@" + digest.DigestStr(), nil
	}
	return repository + ":" + ref.Identifier(), nil
}
