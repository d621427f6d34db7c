package apiserver

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1conversion "k8s.io/kubernetes/pkg/apis/core/v1"

	"fairway.dev/fairway/internal/podspec"
)

// runnable refuses new Pods that the node would run as other ones than they are described, each field by name, and warns of what it leaves out. (What of a
// Pod can be changed later is none of that.)
type runnable struct{ creation }

// creation is all that upstream asks a strategy when an object is made. The second half is optional, and would be lost if only the first were wrapped.
type creation interface {
	rest.RESTCreateStrategy
	rest.DeclarativeValidationStrategy
}

// Validate implements rest.RESTCreateStrategy.
func (s runnable) Validate(ctx context.Context, obj runtime.Object) field.ErrorList {
	errs := s.creation.Validate(ctx, obj)
	findings, err := notDone(obj)
	if err != nil {
		return append(errs, field.InternalError(field.NewPath("spec"), err))
	}
	for _, f := range findings {
		if f.Refused {
			errs = append(errs, field.Forbidden(field.NewPath(f.Field), f.Why))
		}
	}
	return errs
}

// WarningsOnCreate implements rest.RESTCreateStrategy.
func (s runnable) WarningsOnCreate(ctx context.Context, obj runtime.Object) []string {
	warnings := s.creation.WarningsOnCreate(ctx, obj)
	findings, _ := notDone(obj) // or Validate has failed
	for _, f := range findings {
		if !f.Refused {
			warnings = append(warnings, f.String())
		}
	}
	return warnings
}

func notDone(pod runtime.Object) ([]podspec.Finding, error) {
	var spec corev1.PodSpec
	if err := corev1conversion.Convert_core_PodSpec_To_v1_PodSpec(&pod.(*core.Pod).Spec, &spec, nil); err != nil {
		return nil, err
	}
	return podspec.Check(&spec), nil
}
