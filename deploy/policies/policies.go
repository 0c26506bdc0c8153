// Package policies is the policy files that come with Tintype, as bytes: one
// truth for who reads them here and for the program that has them built in.
// What is in them is pkg/account's to read.
package policies

import _ "embed"

// Default is default.yaml, the policy of an installation that names none.
//
//go:embed default.yaml
var Default []byte
