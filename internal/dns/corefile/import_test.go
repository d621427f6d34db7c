package corefile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairway.dev/fairway/internal/dns/config"
	"fairway.dev/fairway/internal/dns/corefile"
)

// imported finds what a test's Corefile imports.
func imported(pattern string) ([]corefile.Text, error) {
	switch pattern {
	case "/etc/coredns/custom/*.override":
		return nil, nil
	case "/etc/coredns/custom/*.server":
		return []corefile.Text{{Name: "own.server", Text: "own.example {\n  forward . 10.1.1.1\n}\n"}}, nil
	}
	return nil, errors.New("no such file")
}

// TestCorpus imports the Corefiles of testdata, each beside what must come of it: the YAML, and behind a line of dashes the refusals.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/*.corefile")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".corefile"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			r, err := corefile.Import("Corefile", string(text), imported)
			var got string
			if err != nil {
				got = "error: " + err.Error() + "\n"
			} else {
				if _, err := config.Parse("yaml", []byte(r.YAML)); err != nil {
					t.Errorf("no good configuration: %v", err)
				}
				got = r.YAML + "---\n"
				for _, f := range r.Refusals {
					got += f.String() + "\n"
				}
			}
			golden := strings.TrimSuffix(f, "corefile") + "golden"
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestSyntax: what cannot be read at all says where and why.
func TestSyntax(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "no server block",
		". {\n errors\n":                         "Corefile:1: the { is not closed",
		".:53":                                   "Corefile:1: the zones have no {",
		"{\n}":                                   "Corefile:1: a { without zones",
		"}":                                      "Corefile:1: a } without a {",
		". {\n hosts {\n a {\n }\n }\n}":         "Corefile:3: a: braces within",
		". {\n hosts\n {\n }\n}":                 "Corefile:3: a { stands on the line",
		". {\n log \"x\n}":                       "Corefile:2: a quote is not closed",
		". {\n forward . {$UPSTREAM}\n}":         "Corefile:2: {$UPSTREAM}: give its value",
		". {\n import nothing\n}":                "Corefile:2: import nothing: no such file",
		"(a) {\n import a\n}\n. {\n import a\n}": "do they import one another?",
		". {\n import\n}":                        "Corefile:2: import: of what?",
	} {
		_, err := corefile.Import("Corefile", text, imported)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestNothingIsPassedOver: a plugin, or an option within one, that is not known is refused with its line, wherever it stands.
func TestNothingIsPassedOver(t *testing.T) {
	const standard = "kubernetes cluster.local {\n}\nforward . 1.1.1.1 {\n}\ncache 30 {\n}\nhosts {\n 1.2.3.4 a\n fallthrough\n}\nhealth {\n}\nready {\n}\nprometheus {\n}\nlog {\n}\nerrors {\n}\nfile /etc/db.x x.example {\n}\n"
	lines := strings.Split(standard, "\n")
	for i, line := range lines {
		for _, where := range []string{"before", "within"} {
			if where == "within" && !strings.HasSuffix(line, "{") || where == "before" && (line == "" || line == "}" || line[0] == ' ') {
				continue
			}
			at := i
			if where == "within" {
				at++
			}
			text := ". {\n" + strings.Join(lines[:at], "\n")
			if at > 0 {
				text += "\n"
			}
			number := strings.Count(text, "\n") + 1
			text += "unheard_of 1\n" + strings.Join(lines[at:], "\n") + "}\n"
			r, err := corefile.Import("Corefile", text, nil)
			if err != nil {
				t.Errorf("%v:\n%s", err, text)
				continue
			}
			if len(r.Refusals) != 1 || r.Refusals[0].Line != number || !strings.Contains(r.Refusals[0].What, "unheard_of 1") {
				t.Errorf("%v, want line %d:\n%s", r.Refusals, number, text)
			}
		}
	}
}

func FuzzImport(f *testing.F) {
	files, err := filepath.Glob("testdata/*.corefile")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, err := corefile.Import("Corefile", text, imported)
		if err != nil && strings.Contains(err.Error(), "cannot be put into Fairway's words") {
			t.Fatalf("%v\n%s", err, text)
		}
	})
}
