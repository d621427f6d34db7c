package compile

import (
	"fmt"

	"fairway.dev/fairway/internal/model"
)

// Severity says what a Finding costs.
type Severity uint8

const (
	// Warning: the Ingress is served, but something that it asks for is not done.
	Warning Severity = iota
	// Error: the Ingress or a part of it is not served.
	Error
)

// String gives "warning" or "error".
func (s Severity) String() string {
	if s == Error {
		return "error"
	}
	return "warning"
}

// Finding is one thing about one Ingress that its author should know. The message says what is wrong and what to write instead.
type Finding struct {
	Ingress  model.Name
	Severity Severity
	Message  string
}

// String puts the finding on one line.
func (f Finding) String() string {
	return fmt.Sprintf("ingress %s: %s: %s", f.Ingress, f.Severity, f.Message)
}
