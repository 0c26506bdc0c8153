// Package tintypev1 is what the tiers say to each other, generated from the
// .proto files beside it: the records of JOBS and LEDGER, and the services
// Front (API to leader) and Work (worker to leader). The comments in the
// .proto files are the protocol's design document.
package tintypev1
