package story

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Page is what a browser saw of the gallery.
type Page struct {
	Browser  string `json:"browser"`
	Pictures int    `json:"pictures"`
	Requests string `json:"requests"` // by the gallery itself, as the page's script shows them
	File     string `json:"file"`     // the screenshot
}

// ErrNoBrowser says that there is no Chromium on this machine.
var ErrNoBrowser = errors.New("no chromium, chromium-browser or google-chrome in PATH")

var (
	pictures = regexp.MustCompile(`<img src="data:image/`)
	counter  = regexp.MustCompile(`<b id="requests">([0-9,]+)</b>`)
)

// look opens the page in a headless Chromium inside the namespace, over HTTPS by its name, and takes a picture of it.
func look(ctx context.Context, ns *namespace, file string, t *teller) (*Page, error) {
	defer t.step("look at https://%s/ in Chromium", host)()
	browser := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			browser = path
			break
		}
	}
	if browser == "" {
		return nil, ErrNoBrowser
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	profile, err := os.MkdirTemp("", "fairway-story-browser-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(profile)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	open := func(what string) (string, error) {
		return ns.output(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
			"--no-first-run", "--disable-background-networking", "--disable-component-update",
			"--user-data-dir="+profile, "--ignore-certificate-errors", "--host-resolver-rules=MAP "+host+" 127.0.0.1",
			"--window-size=1180,1000", "--hide-scrollbars", "--virtual-time-budget=4000", what, "https://"+host+"/")
	}
	dom, err := open("--dump-dom")
	if err != nil {
		return nil, err
	}
	p := &Page{Browser: filepath.Base(browser), Pictures: len(pictures.FindAllString(dom, -1)), File: file}
	if m := counter.FindStringSubmatch(dom); m != nil {
		p.Requests = strings.ReplaceAll(m[1], ",", "")
	}
	if _, err := open("--screenshot=" + file); err != nil {
		return nil, err
	}
	if p.Pictures == 0 || p.Requests == "" {
		return p, fmt.Errorf("the page in %s has %d pictures and shows %q requests; see %s", p.Browser, p.Pictures, p.Requests, file)
	}
	t.say("the page has %d pictures, and the gallery has made %s requests by itself; screenshot: %s", p.Pictures, p.Requests, file)
	return p, nil
}
