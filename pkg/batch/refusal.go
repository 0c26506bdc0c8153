package batch

// A Refusal is that the farm refused a line for good: no job was made of it.
type Refusal struct {
	Line, Pass int
	Code       string // as of a problem document
	Detail     string
}
