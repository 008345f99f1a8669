package definition

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"weir/pkg/event"
)

// language compiles expressions.
type language struct {
	functions functions
	options   []expr.Option
}

// impure are the functions of expr-lang whose results are not given by their
// arguments alone.
func impure() []string { return []string{"now", "keys", "values", "toPairs"} }

func newLanguage(f functions) *language {
	l := &language{functions: f, options: arithmetic()}
	for name, m := range f {
		l.options = append(l.options, expr.Function(name, func(args ...any) (any, error) {
			text, ok := args[0].(string)
			if !ok {
				return nil, fmt.Errorf("%s needs a text, it got %v", name, args[0])
			}
			return m.get(text), nil
		}, new(func(string) string)))
	}
	for _, name := range impure() {
		l.options = append(l.options, expr.DisableBuiltin(name))
	}
	return l
}

// expression is one that can be evaluated.
type expression struct {
	kind   event.Kind
	derive event.Eval
}

// nameError is a name in an expression that stands for nothing.
type nameError struct {
	name   string
	column int
	from   int // in runes
}

func (e *nameError) Error() string {
	return fmt.Sprintf("column %d: unknown name %q", e.column, e.name)
}

// called reports whether the name is called as a function in the text.
func (e *nameError) called(text string) bool {
	after := []rune(text)
	after = after[min(e.from+len([]rune(e.name)), len(after)):]
	return strings.HasPrefix(strings.TrimSpace(string(after)), "(")
}

// names lists what can be called.
func (l *language) names() []string {
	names := slices.Sorted(maps.Keys(l.functions))
	for _, f := range builtin.Builtins {
		if !slices.Contains(impure(), f.Name) {
			names = append(names, f.Name)
		}
	}
	return names
}

// compile prepares an expression over the attributes. The error names the
// column; it wraps a *nameError where a name is unknown.
func (l *language) compile(text string, attributes []event.Attribute) (expression, error) {
	if strings.TrimSpace(text) == "" {
		return expression{}, errors.New("the expression is empty")
	}
	env := make(map[string]any, len(attributes))
	index := make(map[string]int, len(attributes))
	for i, a := range attributes {
		env[a.Name] = sample(a.Kind)
		index[a.Name] = i
	}
	code, err := l.code(text, env)
	if err != nil {
		return expression{}, readable(err)
	}
	names := &nameVisitor{index: index}
	root := code.Node()
	ast.Walk(&root, names)
	if names.env {
		return expression{}, errors.New("$env cannot be used: name the attribute")
	}
	if d, ok := l.direct(root, attributes, index); ok {
		return expression{kind: d.kind, derive: d.cell}, nil
	}
	kind, err := resultKind(root.Type())
	if err != nil {
		return expression{}, err
	}
	p := &program{code: code, kind: kind}
	for name := range names.used {
		p.uses = append(p.uses, use{name: name, attribute: index[name], kind: attributes[index[name]].Kind})
	}
	return expression{kind: kind, derive: p.eval}, nil
}

// code compiles the text as it is written, so that errors are about that, and
// then with checked arithmetic.
func (l *language) code(text string, env map[string]any) (*vm.Program, error) {
	options := append([]expr.Option{expr.Env(env)}, l.options...)
	if _, err := expr.Compile(text, options...); err != nil {
		return nil, err
	}
	v := &checked{}
	code, err := expr.Compile(text, append(options, expr.Patch(v))...)
	if err == nil {
		err = v.err
	}
	return code, err
}

// nameVisitor collects which attributes an expression reads.
type nameVisitor struct {
	index map[string]int
	used  map[string]bool
	env   bool
}

func (v *nameVisitor) Visit(node *ast.Node) {
	id, ok := (*node).(*ast.IdentifierNode)
	if !ok {
		return
	}
	v.env = v.env || id.Value == "$env"
	if _, ok := v.index[id.Value]; ok {
		if v.used == nil {
			v.used = map[string]bool{}
		}
		v.used[id.Value] = true
	}
}

var unknownName = regexp.MustCompile(`^unknown name (\S+)$`)

// readable puts an error of expr-lang on one line.
func readable(err error) error {
	var at *file.Error
	if !errors.As(err, &at) {
		return err
	}
	if m := unknownName.FindStringSubmatch(at.Message); m != nil {
		return &nameError{name: m[1], column: at.Column + 1, from: at.From}
	}
	if at.Line > 1 {
		return fmt.Errorf("line %d, column %d of the expression: %s", at.Line, at.Column+1, at.Message)
	}
	return fmt.Errorf("column %d: %s", at.Column+1, at.Message)
}

// sample is a value of the Go type that stands for the kind in expressions.
func sample(k event.Kind) any {
	switch k {
	case event.String:
		return ""
	case event.Float:
		return float64(0)
	case event.Bool:
		return false
	case event.Int, event.Time:
	}
	return int(0)
}

func resultKind(t reflect.Type) (event.Kind, error) {
	switch t {
	case reflect.TypeFor[string]():
		return event.String, nil
	case reflect.TypeFor[int]():
		return event.Int, nil
	case reflect.TypeFor[float64]():
		return event.Float, nil
	case reflect.TypeFor[bool]():
		return event.Bool, nil
	}
	if t == nil || t.Kind() == reflect.Interface {
		return 0, errors.New("the type of the result is open: wrap it in string(), int() or float(), or compare it")
	}
	return 0, fmt.Errorf("the result is %s: it must be a string, int, float or bool", t)
}

// program is an expression that runs in the virtual machine of expr-lang. It
// may be evaluated by any number of goroutines.
type program struct {
	code   *vm.Program
	kind   event.Kind
	uses   []use
	frames sync.Pool // of *frame
}

// use is one attribute that a program reads.
type use struct {
	name      string
	attribute int
	kind      event.Kind
}

// frame is what one evaluation needs; it is used again by the next.
type frame struct {
	machine vm.VM
	env     map[string]any
}

func (p *program) eval(c *event.Columns, row int) (event.Cell, error) {
	f, ok := p.frames.Get().(*frame)
	if !ok {
		f = &frame{env: make(map[string]any, len(p.uses))}
	}
	defer p.frames.Put(f)
	for _, u := range p.uses {
		f.env[u.name] = load(c, u, row)
	}
	result, err := f.machine.Run(p.code, f.env)
	if err != nil {
		return 0, readable(err)
	}
	return p.store(result, c.Dict)
}

func load(c *event.Columns, u use, row int) any {
	cell := c.Cells[u.attribute][row]
	switch u.kind {
	case event.String:
		return c.Dict.Text(cell)
	case event.Float:
		return cell.Float()
	case event.Bool:
		return cell != 0
	case event.Time:
		return int(milliseconds(cell))
	case event.Int:
	}
	return int(cell)
}

// store turns a result into a cell. Types are known before a program runs but
// for a few corners (a nil branch, the max of an int and a float), which end
// here.
func (p *program) store(result any, dict *event.Dictionary) (event.Cell, error) {
	switch v := result.(type) {
	case int:
		switch p.kind {
		case event.Int:
			return event.Cell(v), nil
		case event.Float:
			return event.FloatCell(float64(v)), nil
		case event.String, event.Bool, event.Time:
		}
	case float64:
		if p.kind == event.Float && finite(v) {
			return event.FloatCell(v), nil
		}
	case bool:
		if p.kind == event.Bool {
			return event.BoolCell(v), nil
		}
	case string:
		if p.kind == event.String && storable(v) {
			return dict.Intern(v), nil
		}
	}
	return 0, fmt.Errorf("the expression gave %#v, which cannot be stored as %s", result, p.kind)
}

// milliseconds reads a cell of kind Time as expressions see it.
func milliseconds(cell event.Cell) event.Cell {
	ms := cell / 1000
	if cell%1000 < 0 { // before 1970
		ms--
	}
	return ms
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

// storable reports whether Postgres can hold the text.
func storable(text string) bool {
	return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0
}
