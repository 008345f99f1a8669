package query

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"

	"weir/pkg/event"
	"weir/pkg/store"
)

// maxExpression is the length of an expression, in bytes, beyond which it is
// not read.
const maxExpression = 4096

// compiler turns the text of an expression into one that store understands,
// and checks names and kinds on the way. The syntax is that of definitions
// (expr-lang), with the spellings of SQL taken as well.
type compiler struct {
	columns   columns
	functions bool                  // aggregate functions are allowed
	aliases   map[string]store.Expr // names that come before those of columns
}

// functions are the aggregate functions by name.
func functions() map[string]store.Op {
	return map[string]store.Op{
		"sum": store.OpSum, "min": store.OpMin, "max": store.OpMax,
		"avg": store.OpAvg, "count": store.OpCount, "last": store.OpLast,
	}
}

func (c compiler) compile(text string) (store.Expr, error) {
	if len(text) > maxExpression {
		return store.Expr{}, fmt.Errorf("the expression is %d characters long; at most %d are read", len(text), maxExpression)
	}
	if strings.ContainsRune(text, 0) || !utf8.ValidString(text) {
		return store.Expr{}, errors.New("the expression is no valid text (UTF-8 without NUL)")
	}
	tree, err := parser.ParseWithConfig(plainSpelling(text), syntax())
	if err != nil {
		var at *file.Error
		if errors.As(err, &at) {
			return store.Expr{}, fmt.Errorf("%s is not understood: %s", text, at.Message)
		}
		return store.Expr{}, fmt.Errorf("%s is not understood: %w", text, err)
	}
	return c.node(tree.Node)
}

// syntax makes our functions, some of which expr-lang has with another
// meaning, plain calls.
func syntax() *conf.Config {
	config := &conf.Config{MaxNodes: 1000, DisableIfOperator: true, Functions: conf.FunctionsTable{}}
	for name := range functions() {
		config.Functions[name] = &builtin.Function{Name: name}
	}
	return config
}

func (c compiler) node(n ast.Node) (store.Expr, error) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		if e, ok := c.aliases[n.Value]; ok {
			return e, nil
		}
		return c.columns.column(n.Value)
	case *ast.MemberNode: // AGGREGATION.column
		of, ok := n.Node.(*ast.IdentifierNode)
		name, ok2 := n.Property.(*ast.StringNode)
		if !ok || !ok2 {
			return store.Expr{}, notKnown(n)
		}
		return c.columns.column(of.Value + "." + name.Value)
	case *ast.IntegerNode:
		return constant(event.Int, int64(n.Value)), nil
	case *ast.FloatNode:
		return constant(event.Float, n.Value), nil
	case *ast.BoolNode:
		return constant(event.Bool, n.Value), nil
	case *ast.StringNode:
		if strings.ContainsRune(n.Value, 0) || !utf8.ValidString(n.Value) {
			return store.Expr{}, errors.New("a text must be valid UTF-8 without NUL")
		}
		return constant(event.String, n.Value), nil
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.CallNode:
		return c.call(n)
	case *ast.BuiltinNode:
		return store.Expr{}, noFunction(n.Name)
	}
	return store.Expr{}, notKnown(n)
}

func noFunction(name string) error {
	return fmt.Errorf("there is no function %s%s; there are sum, min, max, avg, count and last",
		name, didYouMean(name, []string{"sum", "min", "max", "avg", "count", "last"}))
}

func notKnown(n ast.Node) error {
	return fmt.Errorf("%s is more than is understood here, which is: columns, texts, numbers, == != < <= > >=, and or not, in [a, b], contains, startsWith, endsWith, + - * /, and sum, min, max, avg, count, last", n)
}

func constant(kind event.Kind, value any) store.Expr {
	return store.Expr{Op: store.OpConstant, Kind: kind, Value: value}
}

func (c compiler) unary(n *ast.UnaryNode) (store.Expr, error) {
	arg, err := c.node(n.Node)
	if err != nil {
		return store.Expr{}, err
	}
	switch n.Operator {
	case "not", "!":
		if arg.Kind != event.Bool {
			return store.Expr{}, fmt.Errorf("%s negates %s, which is %s; put what it shall negate in parentheses, as in not (%s)",
				n.Operator, n.Node, kindName(arg.Kind), c.columns.example())
		}
		return store.Expr{Op: store.OpNot, Kind: event.Bool, Args: []store.Expr{arg}}, nil
	case "-", "+":
		if !arg.Kind.Numeric() {
			return store.Expr{}, notANumber(n.Operator, n.Node, arg)
		}
		if n.Operator == "+" {
			return arg, nil
		}
		return store.Expr{Op: store.OpNegate, Kind: arg.Kind, Args: []store.Expr{arg}}, nil
	}
	return store.Expr{}, notKnown(n)
}

func notANumber(operator string, n ast.Node, e store.Expr) error {
	return fmt.Errorf("%s needs numbers, and %s is %s", operator, n, kindName(e.Kind))
}

// operators are the binary operators by their text.
func operators() map[string]store.Op {
	return map[string]store.Op{
		"and": store.OpAnd, "&&": store.OpAnd, "or": store.OpOr, "||": store.OpOr,
		"==": store.OpEqual, "!=": store.OpNotEqual, "<": store.OpLess, "<=": store.OpLessEqual,
		">": store.OpGreater, ">=": store.OpGreaterEqual,
		"contains": store.OpContains, "startsWith": store.OpStartsWith, "endsWith": store.OpEndsWith,
		"+": store.OpAdd, "-": store.OpSubtract, "*": store.OpMultiply, "/": store.OpDivide,
	}
}

func (c compiler) binary(n *ast.BinaryNode) (store.Expr, error) {
	if n.Operator == "in" {
		return c.in(n)
	}
	op, ok := operators()[n.Operator]
	if !ok {
		return store.Expr{}, notKnown(n)
	}
	a, err := c.node(n.Left)
	if err != nil {
		return store.Expr{}, err
	}
	b, err := c.node(n.Right)
	if err != nil {
		return store.Expr{}, err
	}
	e := store.Expr{Op: op, Kind: event.Bool, Args: []store.Expr{a, b}}
	switch op {
	case store.OpAnd, store.OpOr:
		err = needs(n, e.Args, "connects conditions", func(k event.Kind) bool { return k == event.Bool })
	case store.OpContains, store.OpStartsWith, store.OpEndsWith:
		err = needs(n, e.Args, "needs texts", func(k event.Kind) bool { return k == event.String })
	case store.OpAdd, store.OpSubtract, store.OpMultiply, store.OpDivide:
		err = needs(n, e.Args, "needs numbers", event.Kind.Numeric)
		e.Kind = event.Float
		if op != store.OpDivide && a.Kind == event.Int && b.Kind == event.Int {
			e.Kind = event.Int
		}
	default:
		if e.Args[0], e.Args[1], err = alike(a, b); err != nil {
			return store.Expr{}, fmt.Errorf("%s: %w", n, err)
		}
		if a.Kind == event.Bool && op != store.OpEqual && op != store.OpNotEqual {
			err = fmt.Errorf("%s: true and false have no order; compare them with == or !=", n)
		}
	}
	return e, err
}

// needs checks the operands' kinds.
func needs(n *ast.BinaryNode, args []store.Expr, what string, right func(event.Kind) bool) error {
	for i, side := range []ast.Node{n.Left, n.Right} {
		if !right(args[i].Kind) {
			return fmt.Errorf("%s %s, and %s is %s", n.Operator, what, side, kindName(args[i].Kind))
		}
	}
	return nil
}

// alike makes two operands of a comparison of one kind, or both numbers:
// beside a time, a text and a number of milliseconds are times.
func alike(a, b store.Expr) (store.Expr, store.Expr, error) {
	var err error
	if a.Kind == event.Time {
		b, err = asTime(b)
	} else if b.Kind == event.Time {
		a, err = asTime(a)
	}
	if err != nil {
		return a, b, err
	}
	if a.Kind != b.Kind && (!a.Kind.Numeric() || !b.Kind.Numeric()) {
		return a, b, fmt.Errorf("%s cannot be compared with %s; a text is in quotes, a number is not", kindName(a.Kind), kindName(b.Kind))
	}
	return a, b, nil
}

func asTime(e store.Expr) (store.Expr, error) {
	if e.Op != store.OpConstant || e.Kind != event.String && e.Kind != event.Int {
		return e, nil
	}
	t, err := parseInstant(fmt.Sprint(e.Value))
	if err != nil {
		return e, err
	}
	return constant(event.Time, t.UTC()), nil
}

func (c compiler) in(n *ast.BinaryNode) (store.Expr, error) {
	list, ok := n.Right.(*ast.ArrayNode)
	if !ok {
		return store.Expr{}, fmt.Errorf("in needs a list in brackets, as in %s in [\"a\", \"b\"]", n.Left)
	}
	value, err := c.node(n.Left)
	if err != nil {
		return store.Expr{}, err
	}
	args := []store.Expr{value}
	for _, element := range list.Nodes {
		e, err := c.node(element)
		if err != nil {
			return store.Expr{}, err
		}
		_, e, err = alike(value, e)
		if err != nil {
			return store.Expr{}, fmt.Errorf("%s in %s: %w", n.Left, list, err)
		}
		args = append(args, e)
	}
	return store.Expr{Op: store.OpIn, Kind: event.Bool, Args: args}, nil
}

func (c compiler) call(n *ast.CallNode) (store.Expr, error) {
	name, ok := n.Callee.(*ast.IdentifierNode)
	if !ok {
		return store.Expr{}, notKnown(n)
	}
	function := strings.ToLower(name.Value)
	op, ok := functions()[function]
	switch {
	case !ok:
		return store.Expr{}, noFunction(name.Value)
	case !c.functions:
		return store.Expr{}, fmt.Errorf("%s: a function over rows has no place here; it needs group_by, or a function in select, and stands in select, having or order_by", n)
	case op == store.OpCount && len(n.Arguments) == 0:
		return store.Expr{Op: op, Kind: event.Int}, nil
	case len(n.Arguments) != 1:
		return store.Expr{}, fmt.Errorf("%s takes one column, as in %[1]s(%s)", function, c.columns.all[0].name)
	}
	arg, err := compiler{columns: c.columns}.node(n.Arguments[0])
	if err != nil {
		return store.Expr{}, err
	}
	if op == store.OpCount { // every row has every column
		return store.Expr{Op: op, Kind: event.Int}, nil
	}
	if (op == store.OpSum || op == store.OpAvg) && !arg.Kind.Numeric() {
		return store.Expr{}, notANumber(function, n.Arguments[0], arg)
	}
	kind := arg.Kind
	if op == store.OpAvg {
		kind = event.Float
	}
	return store.Expr{Op: op, Kind: kind, Args: []store.Expr{arg}}, nil
}

// plainSpelling turns what SQL has in other words into expr-lang, outside
// quotes: = and <>, operators in upper case, count(*).
func plainSpelling(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); {
		n := tokenLength(text[i:])
		token := text[i : i+n]
		switch {
		case token == "=":
			token = "=="
		case token == "<>":
			token = "!="
		case token == "*" && strings.HasSuffix(out.String(), "(") && strings.HasPrefix(strings.TrimSpace(text[i+n:]), ")"):
			token = ""
		case isLetter(token[0]):
			token = spelling(token)
		}
		out.WriteString(token)
		i += n
	}
	return out.String()
}

// spelling returns an operator as expr-lang has it; other words stay.
func spelling(word string) string {
	for _, operator := range []string{"and", "or", "not", "in", "contains", "startsWith", "endsWith", "true", "false", "sum", "min", "max", "avg", "count", "last"} {
		if word == strings.ToUpper(operator) {
			return operator
		}
	}
	return word
}

// tokenLength returns the length of what must be seen as a whole: a quoted
// text, a word, an operator; one byte for all else.
func tokenLength(text string) int {
	switch first := text[0]; {
	case first == '"' || first == '\'' || first == '`':
		for i := 1; i < len(text); i++ {
			if text[i] == '\\' && first != '`' {
				i++
			} else if text[i] == first {
				return i + 1
			}
		}
		return len(text)
	case isLetter(first):
		return len(text) - len(strings.TrimLeftFunc(text, func(r rune) bool {
			return r == '_' || r >= '0' && r <= '9' || r < utf8.RuneSelf && isLetter(byte(r))
		}))
	case strings.IndexByte("=<>!", first) >= 0:
		return len(text) - len(strings.TrimLeft(text, "=<>!"))
	}
	return 1
}

func isLetter(b byte) bool { return b == '_' || b|0x20 >= 'a' && b|0x20 <= 'z' }

// split cuts a list at its commas, but not within quotes or brackets.
func split(list string) []string {
	var parts []string
	depth, start := 0, 0
	for i := 0; i < len(list); {
		switch list[i] {
		case '(', '[':
			depth++
		case ')', ']':
			depth--
		case ',':
			if depth <= 0 {
				parts = append(parts, strings.TrimSpace(list[start:i]))
				start = i + 1
			}
		}
		i += tokenLength(list[i:])
	}
	parts = append(parts, strings.TrimSpace(list[start:]))
	return slices.DeleteFunc(parts, func(p string) bool { return p == "" })
}
