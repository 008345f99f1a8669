package event

// ExactDecoder returns a decoder without scanners, for comparison.
func ExactDecoder() *Decoder { return &Decoder{exact: true} }
