// Package checkpoint writes what the cluster's names are made of to a stream and reads it back, so that a server that starts while the API
// is away has something to answer.
//
// Contract. Pure but for the stream. The format is lines of JSON: a header with version and cluster, one line for each namespace and Service, and
// a last line with their number and a checksum over all before. Read gives everything or an error; of a file that was cut, changed or made for
// another cluster or by a version that is not known nothing is taken. Only what DNS answers is kept; everything else in the rows is lost.
//
// To debug, read the file: it is text. To test, write and read.
package checkpoint

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"net/netip"
	"slices"
	"time"

	"fairway.dev/fairway/internal/model"
)

const version = 1

// ErrOther is for what was written for another cluster.
var ErrOther = errors.New("it is of another cluster")

// Header says what the rest is.
type Header struct {
	Version int `json:"fairwayNames"`
	// Cluster tells clusters apart.
	Cluster string    `json:"cluster"`
	Saved   time.Time `json:"saved"`
}

// Names is what a server answers: each Service with its slices.
type Names struct {
	Header
	Namespaces []string
	Services   []Service
}

// Service is a Service and its slices.
type Service struct {
	*model.Service
	Slices []*model.EndpointSlice
}

// row is one line between header and trailer.
type row struct {
	Namespace string       `json:"ns"`
	Name      string       `json:"n,omitempty"` // "" for a namespace
	Type      string       `json:"t,omitempty"`
	Headless  bool         `json:"h,omitempty"`
	External  string       `json:"x,omitempty"`
	NotReady  bool         `json:"nr,omitempty"`
	IPs       []netip.Addr `json:"ip,omitempty"`
	Ports     []port       `json:"p,omitempty"`
	Slices    []slice      `json:"s,omitempty"`
}

type port struct {
	Name     string `json:"n,omitempty"`
	Protocol uint8  `json:"t"`
	Port     uint16 `json:"p"`
}

type slice struct {
	Name      string     `json:"n"`
	IPv6      bool       `json:"6,omitempty"`
	Ports     []port     `json:"p,omitempty"`
	Endpoints []endpoint `json:"e,omitempty"`
}

type endpoint struct {
	Addr     netip.Addr `json:"a"`
	NotReady bool       `json:"x,omitempty"`
	Hostname string     `json:"h,omitempty"`
	Target   string     `json:"t,omitempty"`
}

type trailer struct {
	Rows     int    `json:"rows"`
	Checksum uint32 `json:"crc32c"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Write writes namespaces and Services to w, a line at a time.
func Write(w io.Writer, cluster string, saved time.Time, namespaces iter.Seq[string], services iter.Seq2[*model.Service, iter.Seq[*model.EndpointSlice]]) error {
	sum := crc32.New(castagnoli)
	out := bufio.NewWriter(w)
	e := json.NewEncoder(io.MultiWriter(out, sum))
	if err := e.Encode(Header{version, cluster, saved.UTC()}); err != nil {
		return err
	}
	rows := 0
	for n := range namespaces {
		rows++
		if err := e.Encode(row{Namespace: n}); err != nil {
			return err
		}
	}
	for svc, list := range services {
		rows++
		if err := e.Encode(rowOf(svc, list)); err != nil {
			return err
		}
	}
	if err := json.NewEncoder(out).Encode(trailer{rows, sum.Sum32()}); err != nil {
		return err
	}
	return out.Flush()
}

func rowOf(s *model.Service, list iter.Seq[*model.EndpointSlice]) row {
	r := row{
		Namespace: s.Name.Namespace, Name: s.Name.Name, Type: string(s.Type), Headless: s.Headless, External: s.ExternalName, NotReady: s.PublishNotReady, IPs: s.ClusterIPs,
	}
	for _, p := range s.Ports {
		r.Ports = append(r.Ports, port{p.Name, uint8(p.Protocol), p.Port})
	}
	for sl := range list {
		out := slice{Name: sl.Name.Name, IPv6: sl.IPv6}
		for _, p := range sl.Ports {
			out.Ports = append(out.Ports, port{p.Name, uint8(p.Protocol), p.Port})
		}
		for _, e := range sl.Endpoints {
			if e.Ready || s.PublishNotReady {
				out.Endpoints = append(out.Endpoints, endpoint{e.Addr, !e.Ready, e.Hostname, e.Target})
			}
		}
		r.Slices = append(r.Slices, out)
	}
	return r
}

// maxLine is how long a line may be; a Service of 50,000 endpoints is below a tenth of that.
const maxLine = 64 << 20

// Read reads what Write has written for the same cluster.
func Read(r io.Reader, cluster string) (*Names, error) {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 64<<10), maxLine)
	sum := crc32.New(castagnoli)
	n := &Names{}
	if !in.Scan() {
		return nil, errors.Join(in.Err(), errors.New("it is empty"))
	}
	if err := json.Unmarshal(in.Bytes(), &n.Header); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	switch {
	case n.Version != version:
		return nil, fmt.Errorf("version %d is not known", n.Version)
	case n.Cluster != cluster:
		return nil, fmt.Errorf("%w, %q", ErrOther, n.Cluster)
	}
	_, _ = sum.Write(append(slices.Clone(in.Bytes()), '\n'))
	for rows := 0; in.Scan(); rows++ {
		var t trailer
		if json.Unmarshal(in.Bytes(), &t) == nil && t.Checksum != 0 {
			if t.Rows != rows || t.Checksum != sum.Sum32() {
				return nil, fmt.Errorf("it was changed: %d rows, checksum %08x instead of %d, %08x", rows, sum.Sum32(), t.Rows, t.Checksum)
			}
			return n, nil
		}
		var r row
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("line %d: %w", rows+2, err)
		}
		n.take(r)
		_, _ = sum.Write(append(slices.Clone(in.Bytes()), '\n'))
	}
	return nil, errors.Join(in.Err(), errors.New("its end is missing"))
}

func (n *Names) take(r row) {
	if r.Name == "" {
		n.Namespaces = append(n.Namespaces, r.Namespace)
		return
	}
	name := model.Name{Namespace: r.Namespace, Name: r.Name}
	s := Service{Service: &model.Service{
		Name: name, Type: model.ServiceType(r.Type), Headless: r.Headless, ExternalName: r.External, PublishNotReady: r.NotReady, ClusterIPs: r.IPs,
	}}
	for _, p := range r.Ports {
		s.Ports = append(s.Ports, model.Port{Name: p.Name, Protocol: model.Protocol(p.Protocol), Port: p.Port})
	}
	for _, in := range r.Slices {
		sl := &model.EndpointSlice{Name: model.Name{Namespace: r.Namespace, Name: in.Name}, Service: name, IPv6: in.IPv6, Headless: r.Headless}
		for _, p := range in.Ports {
			sl.Ports = append(sl.Ports, model.EndpointPort{Name: p.Name, Protocol: model.Protocol(p.Protocol), Port: p.Port})
		}
		for _, e := range in.Endpoints {
			sl.Endpoints = append(sl.Endpoints, model.Endpoint{Addr: e.Addr, Ready: !e.NotReady, Serving: true, Hostname: e.Hostname, Target: e.Target})
		}
		s.Slices = append(s.Slices, sl)
	}
	n.Services = append(n.Services, s)
}
