package definition

import (
	"slices"

	"weir/pkg/event"
)

// checkIfEmpty reports what an attribute with an if_empty cannot have.
func (r reader) checkIfEmpty(a event.Attribute, text attributeText) {
	switch {
	case a.Kind != 0 && a.Kind != event.String:
		r.bad(text.ifEmpty.Node, "if_empty is for strings, this is %s", a.Kind)
	case text.standard.given():
		r.bad(text.standard.Node, "a default is never taken where if_empty is given: leave one of them out")
	case a.Required:
		r.bad(text.needed.Node, "an attribute with if_empty is never missing: leave one of them out")
	}
}

// setIfEmpty compiles what stands where an event has no text, or an empty one.
// Call it when all attributes that are sent are known. It sees those of them
// that are taken as they are sent, so that their order does not matter.
func (s *stream) setIfEmpty(text attributeText) {
	at := s.schema.Index(text.name.Value)
	if !text.ifEmpty.given() || at < 0 || s.broken[text.name.Value] {
		return
	}
	r := s.within("attribute %q", text.name.Value).within("if_empty")
	plain := slices.Clone(s.schema.Attributes)
	for i := range plain {
		if s.filled[plain[i].Name] {
			plain[i].Name = event.HiddenPrefix // stands for nothing
		}
	}
	e, err := s.compile(text.ifEmpty.Value, plain)
	switch {
	case err != nil:
		r.reportAt(text.ifEmpty.Node, err)
	case e.kind != event.String:
		r.bad(text.ifEmpty.Node, "must be a string, %s is %s", text.ifEmpty.Value, e.kind)
	}
	s.schema.Attributes[at].IfEmpty = e.derive
}
