package story

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Report is what the story saw. Durations are in nanoseconds in JSON.
type Report struct {
	Started  time.Time     `json:"started"`
	Took     time.Duration `json:"took"`
	Steps    []Step        `json:"steps"`
	Reached  []Reached     `json:"reached"`
	Page     *Page         `json:"page,omitempty"` // if a browser looked at it
	Kill     *kill         `json:"kill,omitempty"`
	Phases   []Phase       `json:"phases"`
	Problems []string      `json:"problems"` // what is wrong beside failed requests
	Left     []string      `json:"left"`     // what "fairway down" left behind
}

// Phase is one phase, over all clients and by client.
type Phase struct {
	Name    string `json:"name"`
	All     Row    `json:"all"`
	Clients []Row  `json:"clients"`
}

// Row is what was counted for a client.
type Row struct {
	Client   string        `json:"client,omitempty"`
	Requests int64         `json:"requests"`
	Failures int64         `json:"failures"`
	Excused  int64         `json:"excused"`  // of the failures: victims of the kill
	Servers  []string      `json:"servers"`  // Pods of imaging that answered
	Versions []string      `json:"versions"` // of imaging
	P50      time.Duration `json:"p50"`      // of the good requests of the clients outside
	P99      time.Duration `json:"p99"`
	Max      time.Duration `json:"max"`
	Failed   []Failure     `json:"failed,omitempty"`
}

// bad are the failures that nothing excuses.
func (r Row) bad() int64 { return r.Failures - r.Excused }

// totals are the sums over all phases.
func (r Report) totals() (requests, failures, excused int64) {
	for _, p := range r.Phases {
		requests += p.All.Requests
		failures += p.All.Failures
		excused += p.All.Excused
	}
	return requests, failures, excused
}

// Err is nil if the story is a good one: requests were made in every phase and by every client, none failed but for the kill's victims, the
// Service was reached in every way, nobody answered who should be gone, and nothing was left.
func (r Report) Err() error {
	var errs []error
	if len(r.Phases) == 0 {
		errs = append(errs, errors.New("no phase was reached"))
	}
	for _, p := range r.Phases {
		if bad := p.All.bad(); bad > 0 {
			errs = append(errs, fmt.Errorf("%s: %d of %d requests failed", p.Name, bad, p.All.Requests))
		}
		if p.All.Requests == 0 {
			errs = append(errs, fmt.Errorf("%s: no request was made", p.Name))
		}
	}
	for _, c := range r.byClient() {
		if c.Requests == 0 {
			errs = append(errs, fmt.Errorf("%s made no request", c.Client))
		}
	}
	for _, w := range r.Reached {
		if w.Error != "" {
			errs = append(errs, fmt.Errorf("not reached by %s: %s", w.Way, w.Error))
		}
	}
	for _, p := range r.Problems {
		errs = append(errs, errors.New(p))
	}
	for _, l := range r.Left {
		errs = append(errs, fmt.Errorf("left behind: %s", l))
	}
	return errors.Join(errs...)
}

// WriteJSON writes the report to a file.
func (r Report) WriteJSON(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// shownFailures is how many failures Print tells in full.
const shownFailures = 20

// Print writes the tables.
func (r Report) Print(w io.Writer) error {
	var out bytes.Buffer
	if len(r.Phases) > 0 {
		var phases [][]string
		for _, p := range r.Phases {
			phases = append(phases, cells(p.Name, p.All))
		}
		printTable(&out, "PHASE", phases)
		var clients [][]string
		for _, row := range r.byClient() {
			clients = append(clients, cells(row.Client, row))
		}
		printTable(&out, "CLIENT", clients)
	}
	r.printFailures(&out)
	_, err := out.WriteTo(w)
	return err
}

func cells(name string, r Row) []string {
	versions := strings.Join(r.Versions, " ")
	if versions == "" {
		versions = "-"
	}
	return []string{name, fmt.Sprint(r.Requests), fmt.Sprint(r.bad()), fmt.Sprint(r.Excused), fmt.Sprint(len(r.Servers)), versions,
		orDash(r.P50), orDash(r.P99), orDash(r.Max)}
}

// printTable aligns the first column to the left and all others, which are numbers, to the right.
func printTable(w io.Writer, first string, rows [][]string) {
	rows = append([][]string{{first, "REQUESTS", "FAILED", "BY THE KILL", "REPLICAS", "VERSIONS", "P50", "P99", "SLOWEST"}}, rows...)
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	fmt.Fprintln(w)
	for _, row := range rows {
		fmt.Fprintf(w, "%-*s", width[0], row[0])
		for i, cell := range row[1:] {
			fmt.Fprintf(w, "   %*s", width[i+1], cell)
		}
		fmt.Fprintln(w)
	}
}

func orDash(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return short(d)
}

func (r Report) printFailures(w io.Writer) {
	var bad, excused []Failure
	for _, p := range r.Phases {
		for _, f := range p.All.Failed {
			if f.Excuse == "" {
				bad = append(bad, f)
			} else {
				excused = append(excused, f)
			}
		}
	}
	for _, list := range []struct {
		title    string
		failures []Failure
	}{{"Failed:", bad}, {"Died with the killed process:", excused}} {
		if len(list.failures) == 0 {
			continue
		}
		fmt.Fprintln(w, "\n"+list.title)
		for _, f := range list.failures[:min(len(list.failures), shownFailures)] {
			fmt.Fprintf(w, "  %s, %s, %s after %s%s: %s\n", f.Phase, f.Client, f.Started.Format("15:04:05.000"), short(f.Ended.Sub(f.Started)), r.Kill.relative(f), f.Error)
		}
		if more := len(list.failures) - shownFailures; more > 0 {
			fmt.Fprintf(w, "  … and %d more\n", more)
		}
	}
}

// relative says when a failure began, seen from the kill.
func (k *kill) relative(f Failure) string {
	if k == nil || k.excuse(f) == "" {
		return ""
	}
	if d := f.Started.Sub(k.Dead); d > 0 {
		return fmt.Sprintf(" (begun %s after its death)", short(d))
	}
	return " (begun before its death)"
}

// byClient sums each client over the phases. Quantiles are the worst of any phase: they can't be summed.
func (r Report) byClient() []Row {
	var out []Row
	for _, p := range r.Phases {
		for _, c := range p.Clients {
			i := slices.IndexFunc(out, func(o Row) bool { return o.Client == c.Client })
			if i < 0 {
				out = append(out, Row{Client: c.Client})
				i = len(out) - 1
			}
			o := &out[i]
			o.Requests, o.Failures, o.Excused = o.Requests+c.Requests, o.Failures+c.Failures, o.Excused+c.Excused
			o.Servers, o.Versions = distinct(slices.Concat(o.Servers, c.Servers)), distinct(slices.Concat(o.Versions, c.Versions))
			o.P50, o.P99, o.Max = max(o.P50, c.P50), max(o.P99, c.P99), max(o.Max, c.Max)
		}
	}
	return out
}

// Summary is the story in one line.
func (r Report) Summary() string {
	requests, failures, excused := r.totals()
	left := "nothing left behind"
	if len(r.Left) > 0 {
		left = fmt.Sprintf("%d things left behind", len(r.Left))
	}
	return fmt.Sprintf("%d phases, %d requests, %d failed, %d died with the killed process; %s; %s",
		len(r.Phases), requests, failures-excused, excused, left, short(r.Took))
}
