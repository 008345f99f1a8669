package notify

import "strings"

// Secret is a text that is never shown: whatever prints it, or what it is part of,
// prints a placeholder or an address in memory. The zero value is the empty text.
type Secret struct{ text *string }

// NewSecret returns the text as a secret.
func NewSecret(text string) Secret {
	text = strings.Clone(text)
	return Secret{&text}
}

const hidden = "(secret)"

// String hides it.
func (Secret) String() string { return hidden }

// GoString hides it.
func (Secret) GoString() string { return hidden }

// MarshalText hides it.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

func (s Secret) reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

func (s Secret) empty() bool { return s.reveal() == "" }
