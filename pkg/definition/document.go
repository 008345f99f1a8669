package definition

import "go.yaml.in/yaml/v3"

// A document is one file as written: names and values with their places,
// nothing checked yet but the form.
type document struct {
	reader
	stream, doc, time scalar
	future, past      scalar
	attributes        []attributeText
	derived           []derivedText
	aggregations      []aggregationText
	rules             []ruleText
}

type attributeText struct {
	name                                   scalar
	kind, unit, standard, min, doc, needed scalar
	ifEmpty                                scalar
	malformed                              bool // and reported
}

type derivedText struct{ name, value, doc scalar }

// pair is one entry of a mapping of names to single values.
type pair struct{ name, value scalar }

type aggregationText struct {
	name, doc, where, zone, partition scalar
	maxGroups                         scalar
	from, groupBy, every              []scalar
	columns, retention                []pair
}

type ruleText struct {
	name, doc, kind, scope, severity scalar
	labels                           []pair
	figures                          map[string]*scalar // of the type: its bound, its window
	learn                            learnText
	caseText                         // the only case of a simple rule
	cases                            []caseText
}

// learnText is of what a rule learns its bounds.
type learnText struct{ at, aggregation, value, over, atLeast scalar }

type caseText struct {
	figures                  map[string]*scalar // those that are not the rule's
	caseName, where, message scalar
	key, details             []scalar
	role, user, tenant       scalar // of the stakeholder
}

func readDocument(r reader, data []byte) *document {
	d := &document{reader: r}
	root := r.parse(data)
	if root == nil {
		return d
	}
	r.fields(root, map[string]func(*yaml.Node){
		"stream":      r.scalar("stream", &d.stream),
		"description": r.scalar("description", &d.doc),
		"time":        r.scalar("time", &d.time),
		"future":      r.scalar("future", &d.future),
		"past":        r.scalar("past", &d.past),
		"attributes": func(n *yaml.Node) {
			r.within("attributes").entries(n, func(key, value *yaml.Node) {
				d.attributes = append(d.attributes, readAttribute(r, key, value))
			})
		},
		"derived": func(n *yaml.Node) {
			r.within("derived").entries(n, func(key, value *yaml.Node) {
				d.derived = append(d.derived, readDerived(r, key, value))
			})
		},
		"aggregations": func(n *yaml.Node) {
			r.within("aggregations").entries(n, func(key, value *yaml.Node) {
				d.aggregations = append(d.aggregations, readAggregation(r, key, value))
			})
		},
		"rules": func(n *yaml.Node) {
			r.within("rules").entries(n, func(key, value *yaml.Node) {
				d.rules = append(d.rules, readRule(r, key, value))
			})
		},
	})
	return d
}

func readAttribute(r reader, key, value *yaml.Node) attributeText {
	r = r.within("attribute %q", key.Value)
	a := attributeText{name: scalar{key}}
	if value.Kind == yaml.ScalarNode && value.Tag != "!!null" { // name: type
		a.kind = scalar{value}
		return a
	}
	if value.Kind != yaml.MappingNode {
		r.bad(value, "must be a type, or a mapping with one, it is %s", describe(value))
		a.malformed = true
		return a
	}
	r.fields(value, map[string]func(*yaml.Node){
		"type":        r.scalar("type", &a.kind),
		"unit":        r.scalar("unit", &a.unit),
		"default":     r.scalar("default", &a.standard),
		"if_empty":    r.scalar("if_empty", &a.ifEmpty),
		"required":    r.scalar("required", &a.needed),
		"min":         r.scalar("min", &a.min),
		"description": r.scalar("description", &a.doc),
	})
	return a
}

func readDerived(r reader, key, value *yaml.Node) derivedText {
	r = r.within("derived %q", key.Value)
	d := derivedText{name: scalar{key}}
	if value.Kind == yaml.ScalarNode { // name: expression
		r.scalar("the expression", &d.value)(value)
		return d
	}
	r.fields(value, map[string]func(*yaml.Node){
		"value":       r.scalar("value", &d.value),
		"description": r.scalar("description", &d.doc),
	})
	return d
}

func readAggregation(r reader, key, value *yaml.Node) aggregationText {
	r = r.within("aggregation %q", key.Value)
	a := aggregationText{name: scalar{key}}
	r.fields(value, map[string]func(*yaml.Node){
		"description":     r.scalar("description", &a.doc),
		"from":            r.list("from", &a.from),
		"where":           r.scalar("where", &a.where),
		"group_by":        r.list("group_by", &a.groupBy),
		"select":          r.pairs("select", &a.columns),
		"every":           r.list("every", &a.every),
		"retention":       r.pairs("retention", &a.retention),
		"zone":            r.scalar("zone", &a.zone),
		"partition_by_id": r.scalar("partition_by_id", &a.partition),
		"max_groups":      r.scalar("max_groups", &a.maxGroups),
	})
	return a
}

func (r reader) pairs(name string, to *[]pair) func(*yaml.Node) {
	r = r.within("%s", name)
	return func(n *yaml.Node) {
		r.entries(n, func(key, value *yaml.Node) {
			p := pair{name: scalar{key}}
			r.scalar(key.Value, &p.value)(value)
			if p.value.given() {
				*to = append(*to, p)
			}
		})
	}
}

func readRule(r reader, key, value *yaml.Node) ruleText {
	r = r.within("rule %q", key.Value)
	t := ruleText{name: scalar{key}, figures: map[string]*scalar{}}
	known := r.caseFields(&t.caseText)
	for name, to := range map[string]*scalar{"description": &t.doc, "type": &t.kind, "scope": &t.scope, "severity": &t.severity} {
		known[name] = r.scalar(name, to)
	}
	for _, name := range ruleFigures() {
		t.figures[name] = &scalar{}
		known[name] = r.scalar(name, t.figures[name])
	}
	known["labels"] = r.pairs("labels", &t.labels)
	known["learn"] = func(n *yaml.Node) {
		t.learn.at.Node = n
		in := r.within("learn")
		in.fields(n, map[string]func(*yaml.Node){
			"aggregation": in.scalar("aggregation", &t.learn.aggregation), "value": in.scalar("value", &t.learn.value),
			"over": in.scalar("over", &t.learn.over), "at_least": in.scalar("at_least", &t.learn.atLeast),
		})
	}
	known["cases"] = func(n *yaml.Node) {
		r.within("cases").entries(n, func(key, value *yaml.Node) {
			in := r.within("case %q", key.Value)
			c := caseText{caseName: scalar{key}, figures: map[string]*scalar{}}
			known := in.caseFields(&c)
			for _, name := range caseFigures() {
				c.figures[name] = &scalar{}
				known[name] = in.scalar(name, c.figures[name])
			}
			for _, name := range append(ruleFigures(), "description", "type", "scope", "severity", "labels", "learn") {
				if known[name] == nil {
					known[name] = func(n *yaml.Node) {
						in.bad(n, "%s is of the rule, and the same for all its cases: move it there", name)
					}
				}
			}
			in.fields(value, known)
			t.cases = append(t.cases, c)
		})
	}
	r.fields(value, known)
	return t
}

func (r reader) caseFields(c *caseText) map[string]func(*yaml.Node) {
	return map[string]func(*yaml.Node){
		"where":   r.scalar("where", &c.where),
		"message": r.scalar("message", &c.message),
		"key":     r.list("key", &c.key),
		"details": r.list("details", &c.details),
		"stakeholder": func(n *yaml.Node) {
			in := r.within("stakeholder")
			in.fields(n, map[string]func(*yaml.Node){
				"role": in.scalar("role", &c.role), "user": in.scalar("user", &c.user), "tenant": in.scalar("tenant", &c.tenant),
			})
		},
	}
}
