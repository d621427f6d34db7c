// Package metrics is what the data line of one node tells about itself: whether its rules follow the API, and how long that takes, under the
// names and in the form that kube-proxy's users know.
//
// Contract. A Line is told of changes (Changed) and of rounds (Round), and reads the store's status table by itself. What it says is kube-proxy's
// where kube-proxy says it, with the same meaning: a metric whose meaning would differ is left out, or has a name of ours, fairway_…. kube-proxy works on
// each IP family for itself; here one transaction has both, so what is told by family is the same for both. Everything is safe for
// concurrent use. New starts nothing; Run follows the status table until its context ends.
//
// To debug, scrape it. To test, drive a store and read the collector.
package metrics
