package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"fairway.dev/fairway/examples/imaging/story"
)

// TestStory runs examples/imaging as `make demo` does, with the page looked at in a browser where there is one.
func TestStory(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var out bytes.Buffer
	o := story.Options{Fairway: binary(t), Source: "../..", Name: "story", Out: &out}
	if browser, err := exec.LookPath("chromium"); err == nil {
		t.Logf("the page is looked at with %s", browser)
		o.Screenshot = filepath.Join(t.TempDir(), "page.png")
	}
	report, err := story.Run(ctx, o)
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		report.Print(&out)
		t.Fatalf("%v\n%s", err, &out)
	}
	t.Log(report.Summary())
	if o.Screenshot != "" {
		if info, err := os.Stat(o.Screenshot); err != nil || info.Size() < 10_000 {
			t.Errorf("the picture of the page: %v, %v", info, err)
		}
	}
}
