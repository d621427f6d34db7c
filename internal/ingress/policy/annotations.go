package policy

// Domain is what the annotations in this package begin with.
const Domain = "nginx.ingress.kubernetes.io/"

// Level says how close an annotation comes to what ingress-nginx makes of it.
type Level string

// The levels.
const (
	// Exact: the same, as far as a client or an endpoint can tell.
	Exact Level = "exact"
	// Approximate: the same purpose; the note says where it differs.
	Approximate Level = "approximate"
	// Refused: not done.
	Refused Level = "refused"
)

// Purpose says what is at stake when an annotation is not done.
type Purpose uint8

// The purposes.
const (
	// Tune: the Ingress can be served without it.
	Tune Purpose = iota
	// Guard: it restricts who may come in or what an endpoint believes. Without it every path answers 503.
	Guard
	// Steer: it decides where requests go. Without it every path answers 503.
	Steer
)

// closes tells whether an Ingress must not be served without an annotation of this purpose.
func (p Purpose) closes() bool { return p != Tune }

// Annotation is what is known about one annotation.
type Annotation struct {
	// Name is without Domain.
	Name    string
	Level   Level
	Purpose Purpose
	// Note says where it differs, or what to do instead; "" when there is nothing to say.
	Note string
}

// Annotations is the list, by group.
var Annotations = []Annotation{
	{"allowlist-source-range", Exact, Guard, "checked before redirects; the client is the peer, or what a trusted proxy says"},
	{"whitelist-source-range", Exact, Guard, "the older name of allowlist-source-range"},
	{"denylist-source-range", Exact, Guard, "wins over the allow list"},
	{"satisfy", Exact, Guard, ""},

	{"auth-type", Approximate, Guard, "basic; digest is refused"},
	{"auth-secret", Exact, Guard, "in the Ingress's own namespace"},
	{"auth-secret-type", Exact, Guard, ""},
	{"auth-realm", Exact, Tune, ""},

	{"auth-url", Approximate, Guard, "$host, a Service of the namespace, or a host that the class parameter outbound-hosts admits"},
	{"auth-signin", Exact, Guard, ""},
	{"auth-signin-redirect-param", Exact, Guard, ""},
	{"auth-method", Exact, Guard, ""},
	{"auth-response-headers", Exact, Guard, ""},
	{"auth-request-redirect", Exact, Guard, ""},
	{"auth-proxy-set-headers", Exact, Guard, "a ConfigMap of the Ingress's own namespace"},
	{"auth-always-set-cookie", Exact, Tune, ""},
	{"auth-cache-key", Approximate, Tune, "nothing is cached: every request is asked about"},
	{"auth-cache-duration", Approximate, Tune, "nothing is cached: every request is asked about"},
	{"auth-keepalive", Approximate, Tune, "connections are always kept"},
	{"auth-keepalive-requests", Approximate, Tune, "connections are kept without a count"},
	{"auth-keepalive-timeout", Approximate, Tune, "one minute"},
	{"auth-keepalive-share-vars", Approximate, Tune, "there are no variables to share"},
	{"enable-global-auth", Exact, Tune, "there is no authentication for all Ingresses"},
	{"auth-snippet", Refused, Guard, "text of a configuration"},

	{"auth-tls-secret", Refused, Guard, "client certificates are not asked for"},
	{"auth-tls-verify-client", Refused, Guard, ""},
	{"auth-tls-verify-depth", Refused, Guard, ""},
	{"auth-tls-error-page", Refused, Guard, ""},
	{"auth-tls-pass-certificate-to-upstream", Refused, Guard, ""},
	{"auth-tls-match-cn", Refused, Guard, ""},

	{"limit-rps", Exact, Guard, "per client address and proxy; 503 like there"},
	{"limit-rpm", Exact, Guard, "per client address and proxy; 503 like there"},
	{"limit-connections", Approximate, Guard, "counts open requests of a client address, which in HTTP/1.1 is the same"},
	{"limit-burst-multiplier", Exact, Guard, ""},
	{"limit-whitelist", Exact, Guard, ""},
	{"limit-allowlist", Exact, Guard, "the newer name of limit-whitelist"},
	{"limit-rate", Refused, Tune, "answers are not slowed down"},
	{"limit-rate-after", Refused, Tune, ""},
	{"global-rate-limit", Refused, Guard, "limits are per proxy: use limit-rps or limit-rpm"},
	{"global-rate-limit-window", Refused, Guard, ""},
	{"global-rate-limit-key", Refused, Guard, ""},
	{"global-rate-limit-ignored-cidrs", Refused, Guard, ""},

	{"ssl-redirect", Exact, Steer, "without the annotation, the class parameter ssl-redirect decides"},
	{"force-ssl-redirect", Exact, Steer, ""},
	{"preserve-trailing-slash", Exact, Tune, ""},
	{"from-to-www-redirect", Exact, Steer, ""},
	{"permanent-redirect", Exact, Steer, "http and https only"},
	{"permanent-redirect-code", Exact, Steer, ""},
	{"temporal-redirect", Exact, Steer, "http and https only"},
	{"temporal-redirect-code", Exact, Steer, ""},
	{"relative-redirects", Refused, Tune, "redirects name scheme and host"},
	{"app-root", Exact, Steer, ""},

	{"rewrite-target", Approximate, Steer, "captures need the class parameter path-matching: ingress-nginx; expressions are RE2"},
	{"use-regex", Approximate, Steer, "needs the class parameter path-matching: ingress-nginx; expressions are RE2"},
	{"x-forwarded-prefix", Exact, Tune, ""},
	{"upstream-vhost", Exact, Steer, ""},
	{"server-alias", Exact, Steer, ""},

	{"enable-cors", Exact, Tune, ""},
	{"cors-allow-origin", Exact, Tune, ""},
	{"cors-allow-methods", Exact, Tune, ""},
	{"cors-allow-headers", Exact, Tune, ""},
	{"cors-allow-credentials", Approximate, Tune, "credentials with every origin name the origin, since browsers refuse * for them"},
	{"cors-expose-headers", Exact, Tune, ""},
	{"cors-max-age", Exact, Tune, ""},
	{"custom-headers", Exact, Tune, "names that the class parameter response-headers admits"},

	{"proxy-body-size", Exact, Tune, "without the annotation, the class parameter proxy-body-size decides"},
	{"proxy-connect-timeout", Exact, Tune, "seconds, without a unit"},
	{"proxy-send-timeout", Approximate, Tune, "seconds, without a unit; upgraded connections are not cut"},
	{"proxy-read-timeout", Approximate, Tune, "seconds, without a unit; upgraded connections are not cut"},
	{"proxy-request-buffering", Approximate, Tune, "bodies of up to 64 KiB are read first, longer ones stream"},
	{"client-body-buffer-size", Approximate, Tune, "memory for bodies is bounded without it"},
	{"proxy-buffering", Approximate, Tune, "answers stream"},
	{"proxy-buffers-number", Approximate, Tune, "answers stream"},
	{"proxy-buffer-size", Approximate, Tune, "an answer's head may have 32 KiB"},
	{"proxy-busy-buffers-size", Approximate, Tune, "answers stream"},
	{"proxy-max-temp-file-size", Approximate, Tune, "nothing is written to files"},
	{"proxy-cookie-domain", Exact, Tune, ""},
	{"proxy-cookie-path", Exact, Tune, ""},
	{"proxy-redirect-from", Exact, Tune, ""},
	{"proxy-redirect-to", Exact, Tune, ""},
	{"proxy-next-upstream", Refused, Tune, "idempotent requests are tried again elsewhere when a connection fails, others when nothing was sent"},
	{"proxy-next-upstream-tries", Refused, Tune, "at most 4"},
	{"proxy-next-upstream-timeout", Refused, Tune, ""},
	{"proxy-http-version", Refused, Tune, "endpoints are spoken to in HTTP/1.1"},
	{"custom-http-errors", Approximate, Tune, "the Service of default-backend answers, since there is none for all Ingresses"},
	{"disable-proxy-intercept-errors", Exact, Tune, ""},
	{"default-backend", Exact, Tune, "answers for Services without endpoints, and with custom-http-errors"},

	{"backend-protocol", Refused, Steer, "HTTP only"},
	{"proxy-ssl-secret", Refused, Guard, "endpoints are not spoken to over TLS"},
	{"proxy-ssl-verify", Refused, Guard, ""},
	{"proxy-ssl-verify-depth", Refused, Guard, ""},
	{"proxy-ssl-name", Refused, Guard, ""},
	{"proxy-ssl-server-name", Refused, Guard, ""},
	{"proxy-ssl-protocols", Refused, Guard, ""},
	{"proxy-ssl-ciphers", Refused, Guard, "the cipher suites are Go's"},

	{"service-upstream", Refused, Tune, "endpoints are connected to directly"},
	{"load-balance", Refused, Tune, "round robin"},
	{"upstream-hash-by", Refused, Tune, "round robin"},
	{"upstream-hash-by-subset", Refused, Tune, ""},
	{"upstream-hash-by-subset-size", Refused, Tune, ""},
	{"affinity", Refused, Tune, "round robin"},
	{"affinity-mode", Refused, Tune, ""},
	{"affinity-canary-behavior", Refused, Tune, ""},
	{"session-cookie-name", Refused, Tune, ""},
	{"session-cookie-path", Refused, Tune, ""},
	{"session-cookie-domain", Refused, Tune, ""},
	{"session-cookie-samesite", Refused, Tune, ""},
	{"session-cookie-conditional-samesite-none", Refused, Tune, ""},
	{"session-cookie-secure", Refused, Tune, ""},
	{"session-cookie-max-age", Refused, Tune, ""},
	{"session-cookie-expires", Refused, Tune, ""},
	{"session-cookie-change-on-failure", Refused, Tune, ""},

	{"canary", Exact, Steer, "one for each host and path; its other annotations have no effect"},
	{"canary-by-header", Exact, Steer, ""},
	{"canary-by-header-value", Exact, Steer, ""},
	{"canary-by-header-pattern", Approximate, Steer, "an RE2 expression"},
	{"canary-by-cookie", Exact, Steer, ""},
	{"canary-weight", Exact, Steer, ""},
	{"canary-weight-total", Exact, Steer, ""},

	{"mirror-target", Refused, Tune, "no copies are sent"},
	{"mirror-request-body", Refused, Tune, ""},
	{"mirror-host", Refused, Tune, ""},

	{"ssl-passthrough", Refused, Steer, "TLS ends here"},
	{"ssl-ciphers", Refused, Tune, "the cipher suites are Go's, which are all good ones"},
	{"ssl-prefer-server-ciphers", Refused, Tune, "Go chooses"},
	{"connection-proxy-header", Approximate, Tune, "connections are always kept"},
	{"http2-push-preload", Approximate, Tune, "no browser knows HTTP/2 push any more"},
	{"enable-access-log", Exact, Tune, ""},
	{"enable-rewrite-log", Approximate, Tune, "fairway ingress explain tells it for any request"},
	{"enable-opentelemetry", Refused, Tune, "no spans are sent"},
	{"opentelemetry-operation-name", Refused, Tune, ""},
	{"opentelemetry-trust-incoming-span", Refused, Tune, ""},

	{"configuration-snippet", Refused, Guard, "text of a configuration: use the annotation that does what it does"},
	{"server-snippet", Refused, Guard, "text of a configuration: use the annotation that does what it does"},
	{"stream-snippet", Refused, Guard, "text of a configuration: use the annotation that does what it does"},
	{"enable-modsecurity", Refused, Guard, "there is no web application firewall here"},
	{"enable-owasp-core-rules", Refused, Guard, ""},
	{"modsecurity-snippet", Refused, Guard, "text of a configuration"},
	{"modsecurity-transaction-id", Refused, Guard, ""},
}

var byName = func() map[string]*Annotation {
	m := make(map[string]*Annotation, len(Annotations))
	for i := range Annotations {
		m[Annotations[i].Name] = &Annotations[i]
	}
	return m
}()

// Lookup gives what is known about an annotation of that name, which is without Domain, or nil.
func Lookup(name string) *Annotation { return byName[name] }
