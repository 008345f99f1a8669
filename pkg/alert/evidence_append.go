package alert

import "encoding/binary"

// AppendEvidence encodes evidence as a [Collector] does; nothing for nothing.
func AppendEvidence(to []byte, all []Evidence) []byte {
	if len(all) == 0 {
		return to
	}
	var t texts
	var bodies []byte
	for i := range all {
		bodies = all[i].append(bodies, &t)
	}
	to = append(to, evidenceVersion)
	to = append(binary.AppendUvarint(to, uint64(t.n)), t.all...) //nolint:gosec // a count
	return append(binary.AppendUvarint(to, uint64(len(all))), bodies...)
}

func (e *Evidence) append(to []byte, t *texts) []byte {
	index := func(text string) { to = binary.AppendUvarint(to, uint64(t.text(text))) } //nolint:gosec // an index
	index(e.Rule)
	index(e.Case)
	parts, details := 0, 0
	if len(e.Keys) > 0 {
		parts, details = len(e.Keys[0].Parts), len(e.Keys[0].Details)
	}
	to = append(binary.AppendUvarint(to, uint64(len(e.Keys))), byte(parts), byte(details)) //nolint:gosec // few
	for _, key := range e.Keys {
		for _, part := range key.Parts {
			index(part)
		}
		for _, detail := range key.Details {
			index(detail)
		}
	}
	has := e.has()
	to = append(to, has, byte(e.Width)) //nolint:gosec // few measures
	to = binary.AppendUvarint(to, uint64(len(e.Items)))
	b := body{texts: t, items: to}
	for i := range e.Items {
		e.item(&b, &e.Items[i], has)
		for _, v := range e.values(i) {
			b.items = appendNumber(b.items, v)
		}
	}
	return b.items
}

func (e *Evidence) item(b *body, item *Item, has byte) {
	text := func(i int32) {
		n := uint64(0)
		if i >= 0 {
			n = uint64(b.texts.text(e.Texts[i])) + 1 //nolint:gosec // an index
		}
		b.items = binary.AppendUvarint(b.items, n)
	}
	b.items = binary.AppendUvarint(b.items, uint64(item.Key)) //nolint:gosec // an index
	b.time(item.Time)
	if has&haveMembers != 0 {
		text(item.Member)
	}
	if has&haveStates != 0 {
		text(item.State)
	}
	if has&haveOrder == 0 {
		b.items = binary.AppendUvarint(b.items, uint64(item.N)) //nolint:gosec // a count
	} else {
		b.order(item.Sequence, item.Offset, item.Hit)
	}
}

func (e *Evidence) has() (has byte) {
	for i := range e.Items {
		item := &e.Items[i]
		if item.Member >= 0 {
			has |= haveMembers
		}
		if item.State >= 0 {
			has |= haveStates
		}
		if item.Sequence != 0 {
			has |= haveOrder
		}
	}
	return has
}
