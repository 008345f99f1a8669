package definition

// RuleFields are the names of all that a rule can have beside those that all rules have.
func RuleFields() []string { return append(append(ruleFigures(), caseFigures()...), "learn", "over") }
