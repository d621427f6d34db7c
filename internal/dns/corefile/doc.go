// Package corefile reads CoreDNS's configuration and writes Fairway's.
//
// Contract. Pure: text in, text out; files that a Corefile imports come through a function of the caller's. Import gives the YAML, and each
// line that Fairway does not do as a Refusal; nothing is passed over in silence, so that a Corefile without refusals is served as CoreDNS would
// serve it, but for what docs/dns.md names. What is written is always a configuration that package config accepts. No byte sequence makes it panic.
//
// Contained are the plugins of kubeadm's, k3s's and similar clusters' Corefiles. To debug, read the comments in the YAML: each names the line
// that it comes from.
package corefile
