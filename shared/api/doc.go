// Package api is the HTTP protocol: its types, the handler that serves it, and
// the client that speaks it. Both ends live here so that they cannot differ.
//
//	job.go       a job as users see it (GET /v1/jobs/{id})
//	agent.go     the agent's own protocol under /v1/agent/
//	problem.go   RFC 9457 problem documents, and errors on the wire
package api
