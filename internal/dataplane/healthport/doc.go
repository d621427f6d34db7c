// Package healthport answers the health checks of load balancers: one small HTTP server for each Service of type LoadBalancer with external
// policy Local, on its spec.healthCheckNodePort at the node's addresses.
//
// Contract. It is that of package dataplane, with sockets in place of rules. The answer is kube-proxy's: 200 while the node has a ready
// backend of the Service, in the family that was asked in, and the rules follow the API; else 503; the body and the header
// X-Load-Balancing-Endpoint-Weight say how many there are. A backend that goes is taken off at once, one that comes is counted when the kernel
// has it in force, so that nobody sends before this node can serve. A port that is taken by somebody else is reported in
// Status.Failed and tried again, and holds up no other Service. When Run returns, all ports are closed.
//
// To debug, ask the port with curl. To test, run it in a network namespace.
package healthport
