package proxy

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"
)

// Config says where to listen and how to treat requests. Zero durations and sizes mean the defaults named beside them.
type Config struct {
	// HTTP and HTTPS are the addresses to listen on, in the network namespace of the thread that calls New. Port 0 takes a
	// free one; Addrs tells which.
	HTTP, HTTPS []netip.AddrPort

	// WithoutClass also serves Ingresses that name no class when no class of ours is the default.
	WithoutClass bool
	// LoopbackEndpoints admits endpoints in 127.0.0.0/8 and ::1; for development and tests.
	LoopbackEndpoints bool
	// TrustedCIDRs are the clients whose X-Forwarded headers are believed and extended: the proxies in front of this one. Nobody by default.
	TrustedCIDRs []netip.Prefix

	// DefaultCertificate is served to clients whose server name no Ingress has a certificate for. Without it one is made and
	// signed by itself; CertificateDir, if set, keeps that one across restarts (default.crt and default.key, mode 0600).
	DefaultCertificate *tls.Certificate
	CertificateDir     string

	// Logger gets what operators must know; nil means slog.Default. AccessLog, if set, gets one record per request.
	Logger    *slog.Logger
	AccessLog *slog.Logger

	// ReadHeaderTimeout bounds the time a client may take for its request head: 10 s.
	ReadHeaderTimeout time.Duration
	// IdleTimeout closes a client's connection that has no request: 75 s.
	IdleTimeout time.Duration
	// DialTimeout bounds connecting to one endpoint: 3 s.
	DialTimeout time.Duration
	// ResponseTimeout bounds the wait for an answer to begin, after the request is sent: 60 s. Past it the client gets 504.
	ResponseTimeout time.Duration
	// StreamTimeout bounds each pause in a body, in either direction: 5 min. Upgraded connections have no such bound.
	StreamTimeout time.Duration
	// BackendIdleTimeout closes a pooled connection that has not been used: 60 s.
	BackendIdleTimeout time.Duration
	// DrainTimeout is how long Run lets open requests finish after its context has ended: 15 s. Upgraded connections are closed
	// at its end.
	DrainTimeout time.Duration

	// MaxHeaderBytes bounds a head in either direction: 32 KiB.
	MaxHeaderBytes int
	// MaxBodyBytes bounds a request body; 0 means no bound, which costs no memory since bodies stream.
	MaxBodyBytes int64
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.ReadHeaderTimeout, 10 * time.Second}, {&c.IdleTimeout, 75 * time.Second}, {&c.DialTimeout, 3 * time.Second},
		{&c.ResponseTimeout, time.Minute}, {&c.StreamTimeout, 5 * time.Minute}, {&c.BackendIdleTimeout, time.Minute},
		{&c.DrainTimeout, 15 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.MaxHeaderBytes == 0 {
		c.MaxHeaderBytes = 32 << 10
	}
	return c
}
