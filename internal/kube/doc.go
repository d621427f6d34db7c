// Package kube is how Fairway's own parts speak to a Kubernetes API: one light client for the few groups that they need, and Watch, which
// keeps a receiver equal to what the API says about one kind of object: list, then watch, again and again.
//
// Contract. Watch blocks until its context ends. Each object is converted at once and dropped, so that the API's form of it is never
// held beside the converted one, not even during the first list. The receiver gets Replace with all that exists, then Put and Delete in the
// API's order, always from one goroutine at a time. While the API is away the receiver hears nothing and Watch tries again, at most
// two seconds apart; when the API is back and cannot say what changed meanwhile, the receiver gets another Replace.
//
// To debug, read the log: "watch lost" and "watch back" name the resource; what client-go itself has to say goes to klog. To test, give Watch a cache.ListerWatcher of your own, such as client-go's FakeControllerSource.
package kube
