// Package questions is the table of questions that every DNS server of a cluster must answer alike: a small world of Services and
// EndpointSlices, and what each answer must say about it, written by hand.
//
// Contract. Fixture gives the world; Table the questions; Render writes an answer in the words of the table, so that one line holds all that
// counts, in an order that does not depend on rotation. The table is asked of three servers: the zone alone and Fairway's server
// (internal/dns), and CoreDNS on the same API (test/discovery). Where CoreDNS answers otherwise, CoreDNS has its answer and the row of
// docs/differences.md with the reason.
//
// To debug: run one question with -run 'TestQuestions/R15'. To add a rule, add rows; every server answers them.
package questions
