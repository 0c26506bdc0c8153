package object

// Pages is List with pages of a size that a test can fill.
var Pages = (*Bucket).list
