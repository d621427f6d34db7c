package policy

import (
	"net/netip"
	"regexp"
	"time"

	"fairway.dev/fairway/internal/model"
)

// Policy is what one Ingress asks for. It is immutable and shared by the routes of the Ingress. The zero value asks for nothing.
type Policy struct {
	// Allow are the clients that may come in; nil is everybody. Deny are those that may not, and wins.
	Allow, Deny []netip.Prefix
	// SatisfyAny lets a client in that either Allow and Deny or the authentication admits, instead of both.
	SatisfyAny bool
	Basic      *BasicAuth
	External   *ExternalAuth
	ClientTLS  *ClientTLS
	Limit      *Limit

	// Redirect answers every request.
	Redirect *Redirect
	// AppRoot is where a request for exactly "/" is redirected with 302; "" is nowhere.
	AppRoot string
	// ToHTTPS redirects plain HTTP with 308.
	ToHTTPS ToHTTPS
	// KeepSlash leaves the final slash of a path that is redirected to HTTPS; without it one is taken off.
	KeepSlash bool
	// WWW redirects, with 308, a host with "www." to the one without, and the other way round, as far as only one of both has rules.
	WWW bool
	// HSTS is the value of Strict-Transport-Security in answers over TLS, or "".
	HSTS string
	CORS *CORS

	// MaxBody bounds a request's body in bytes: 0 leaves it to the listener, -1 is no bound.
	MaxBody int64
	// Connect bounds connecting to an endpoint. Send and Read bound each pause while a request is sent and while its answer is awaited or read.
	// 0 leaves them to the listener.
	Connect, Send, Read time.Duration
	// Rewrite is the new path, or nil.
	Rewrite *Rewrite
	// ForwardedPrefix is the value of X-Forwarded-Prefix for rewritten requests, or "".
	ForwardedPrefix string
	// Host replaces the Host header towards endpoints; nil leaves the client's.
	Host *Text

	// ResponseHeaders replace those of an answer.
	ResponseHeaders []Header
	// CookieDomain and CookiePath replace these attributes of cookies that endpoints set; Location does so with the beginning of that header.
	CookieDomain, CookiePath, Location *Replace
	// Errors are the answers of endpoints in whose place that of ErrorService is given.
	Errors []int
	// ErrorService answers where the Service of a path has no endpoint; "" is nobody. Its first port is used.
	ErrorService string

	Balance  Balance
	Affinity *Affinity
	// ViaService connects to the Service's cluster address instead of its endpoints.
	ViaService bool
	// Protocol is how endpoints are spoken to; "" is HTTP/1.1.
	Protocol   Protocol
	BackendTLS *BackendTLS
	Retry      *Retry
	Mirror     *Mirror
	// Canary makes the Ingress an alternative to the one that owns the same host and path, instead of a route of its own.
	Canary *Canary

	// Aliases are further hosts, as far as no rule has them.
	Aliases []string
	// Regex asks that paths be regular expressions.
	Regex bool
	// Unlogged leaves its requests out of the access log.
	Unlogged bool
}

// Header is one header field.
type Header struct{ Name, Value string }

// Replace is what stands for From.
type Replace struct{ From, To string }

// ToHTTPS says when plain HTTP is redirected.
type ToHTTPS uint8

// The values of ToHTTPS.
const (
	// Never: it is served as it comes.
	Never ToHTTPS = iota
	// WithCertificate: where the host has a certificate.
	WithCertificate
	// Always: also where it has none, because something in front ends TLS.
	Always
)

// Redirect is an answer 3xx.
type Redirect struct {
	Code   int
	Target Text
}

// BasicAuth is RFC 7617 with the users of one Secret.
type BasicAuth struct {
	Realm string
	// Users are the stored passwords, in a format of crypt(3) or htpasswd, by name.
	Users map[string]string
}

// ExternalAuth asks another HTTP server about each request: 2xx admits it.
type ExternalAuth struct {
	// URL is asked; its host may be a variable.
	URL Text
	// Host is that of URL, without port, and "$host" if it is the request's own.
	Host string
	// Method is that of the question; "" is GET.
	Method string
	// SignIn is where a browser goes that is answered 401; nil is nowhere. RedirectParam is the query parameter for the way back.
	SignIn        *Text
	RedirectParam string
	// ResponseHeaders are copied from the answer into the request, in canonical form.
	ResponseHeaders []string
	// RequestRedirect is the value of X-Auth-Request-Redirect; nil is the request's own URI.
	RequestRedirect *Text
	// Headers are added to the question.
	Headers []Header
	// AlwaysSetCookie adds the answer's Set-Cookie to answers of any status, not to 2xx and 3xx alone.
	AlwaysSetCookie bool
}

// ClientTLS asks clients for a certificate.
type ClientTLS struct {
	// CA is the PEM of the authorities, CRL that of revocations or nil.
	CA, CRL []byte
	// Secret is where they come from.
	Secret model.Name
	Verify VerifyClient
	// Depth is the most authorities between the client's certificate and a root.
	Depth int
	// Subject must match the subject of the certificate in RFC 2253 form; nil is any.
	Subject *regexp.Regexp
	// ErrorPage is where clients without a good certificate are redirected with 302; "" answers 400.
	ErrorPage string
	// Pass gives the certificate to endpoints in the header ssl-client-cert.
	Pass bool
}

// VerifyClient says what a client's certificate is good for.
type VerifyClient uint8

// The values of VerifyClient.
const (
	// Required: there must be one that an authority has signed.
	Required VerifyClient = iota
	// Optional: one that is given must be signed.
	Optional
	// OptionalNoCA: whether it is signed is for the endpoint to judge.
	OptionalNoCA
	// Off: none is asked for.
	Off
)

// Limit bounds what one client address may ask of one proxy. 0 is no bound.
type Limit struct {
	PerSecond, PerMinute, Connections int
	// Burst is how many times a rate may come at once.
	Burst int
	// Except are clients without limits.
	Except []netip.Prefix
	// BytesPerSecond bounds each answer after the first BytesAfter bytes.
	BytesPerSecond, BytesAfter int64
}

// CORS is what browsers are told about other origins.
type CORS struct {
	// Any admits every origin. Origins are admitted by name, with "*." for one or more labels.
	Any              bool
	Origins          []string
	Methods, Headers string
	Expose           string
	Credentials      bool
	MaxAge           int
}

// Rewrite is the path, and maybe the query, for the endpoint.
type Rewrite struct {
	// Parts follow each other.
	Parts []RewritePart
	// Captures is the highest number among the parts.
	Captures int
}

// RewritePart is literal text, or what group Capture of the path's expression matched; Capture is -1 for text.
type RewritePart struct {
	Text    string
	Capture int
}

// Algorithm chooses among the endpoints.
type Algorithm uint8

// The values of Algorithm.
const (
	RoundRobin Algorithm = iota
	// LeastLoad takes the better of two by load and latency.
	LeastLoad
	// ByHash takes the same endpoint for the same value, as far as endpoints stay.
	ByHash
)

// Balance is how an endpoint is chosen.
type Balance struct {
	Algorithm Algorithm
	// By is what ByHash looks at.
	By *Text
	// Subset spreads one value over that many endpoints, chosen by hash; 0 is one endpoint.
	Subset int
}

// Affinity is a cookie that leads a client to the same endpoint.
type Affinity struct {
	Name, Path, Domain string
	// SameSite is "None", "Lax", "Strict" or "".
	SameSite string
	// ConditionalNone leaves SameSite=None out for browsers that take it for Strict.
	ConditionalNone bool
	// Secure is nil where it follows from the request's scheme.
	Secure *bool
	// MaxAge and Expires are in seconds; 0 is a cookie for the session.
	MaxAge, Expires int
	// Persistent keeps the endpoint as long as there is one, also where another balance would be fairer.
	Persistent bool
	// ChangeOnFailure takes another endpoint for good when the present one fails.
	ChangeOnFailure bool
	// CanaryToo keeps a client with the canary or without, once it was decided.
	CanaryToo bool
}

// Protocol is how an endpoint is spoken to.
type Protocol string

// The protocols.
const (
	HTTP1 Protocol = ""
	HTTPS Protocol = "https"
	GRPC  Protocol = "grpc"
	GRPCS Protocol = "grpcs"
)

// TLS tells whether the protocol is spoken over TLS.
func (p Protocol) TLS() bool { return p == HTTPS || p == GRPCS }

// HTTP2 tells whether the protocol is HTTP/2.
func (p Protocol) HTTP2() bool { return p == GRPC || p == GRPCS }

// BackendTLS is TLS towards endpoints.
type BackendTLS struct {
	// Verify holds the endpoint's certificate to CA, at most Depth authorities, and Name if that is set.
	Verify bool
	Depth  int
	// CA, Cert and Key are PEM of Secret; Cert and Key are this side's own, and may be nil.
	CA, Cert, Key []byte
	Secret        model.Name
	// Name is what the certificate must be for. SendName also sends it as server name (SNI).
	Name     string
	SendName bool
	// MinVersion and MaxVersion are those of crypto/tls; 0 is its default.
	MinVersion, MaxVersion uint16
}

// Retry is when a request is tried on another endpoint.
type Retry struct {
	// Off tries each request once.
	Off bool
	// Error and Timeout are failures of the connection; Statuses are answers.
	Error, Timeout bool
	Statuses       []int
	// NonIdempotent tries also what may have been acted on.
	NonIdempotent bool
	// Tries bounds the attempts, 0 does not; Within bounds the time for all of them.
	Tries  int
	Within time.Duration
}

// Mirror sends a copy of each request elsewhere; its answer is thrown away.
type Mirror struct {
	Target Text
	// Host is that of Target, and of the copy's Host header unless HostHeader is set.
	Host       string
	HostHeader string
	// Body copies bodies as well.
	Body bool
}

// Canary is when a request takes the alternative. The first that decides, in the order of the fields, is right.
type Canary struct {
	// Header "always" takes it and "never" does not; with Value, that value takes it; with Pattern, a value that matches.
	Header, Value string
	Pattern       *regexp.Regexp
	// Cookie "always" takes it and "never" does not.
	Cookie string
	// Weight of Total requests take it.
	Weight, Total int
}
