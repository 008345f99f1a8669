package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// URL is an address that may hold a password. Formatted, logged or marshalled it shows none;
// string(u) is the whole one, for whoever connects.
type URL string

// String is the URL without its secrets.
func (u URL) String() string { return Redact(string(u)) }

// GoString keeps the secrets out of %#v too.
func (u URL) GoString() string { return strconv.Quote(u.String()) }

// MarshalText keeps the secrets out of JSON and YAML too.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Bytes is a number of bytes, written as 1048576 or 1MiB.
type Bytes int64

// The units a number of bytes may be written in.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
)

// String is the number in the largest unit that divides it.
func (b Bytes) String() string {
	switch {
	case b == 0:
		return "0"
	case b%GiB == 0:
		return strconv.FormatInt(int64(b/GiB), 10) + "GiB"
	case b%MiB == 0:
		return strconv.FormatInt(int64(b/MiB), 10) + "MiB"
	case b%KiB == 0:
		return strconv.FormatInt(int64(b/KiB), 10) + "KiB"
	default:
		return strconv.FormatInt(int64(b), 10)
	}
}

func parseBytes(text string) (Bytes, error) {
	number, unit := text, Bytes(1)
	for suffix, size := range map[string]Bytes{"KiB": KiB, "MiB": MiB, "GiB": GiB} {
		if head, ok := strings.CutSuffix(text, suffix); ok {
			number, unit = strings.TrimSpace(head), size
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > math.MaxInt64/int64(unit) || n < math.MinInt64/int64(unit) {
		return 0, fmt.Errorf("%q is not a number of bytes; write it as 1048576 or 1MiB (KiB, MiB, GiB)", text)
	}
	return Bytes(n) * unit, nil
}

// setting is one leaf of Config: its name, and its value in the Config it was taken from.
type setting struct {
	name  string
	value any
}

// settings lists the leaves of c in the order of the struct.
func settings(c Config) []setting {
	return appendSettings(nil, "", reflect.ValueOf(c))
}

func appendSettings(list []setting, prefix string, v reflect.Value) []setting {
	for i := range v.NumField() {
		name := prefix + v.Type().Field(i).Tag.Get("koanf")
		if v.Field(i).Kind() == reflect.Struct {
			list = appendSettings(list, name+".", v.Field(i))
			continue
		}
		list = append(list, setting{name, v.Field(i).Interface()})
	}
	return list
}

// parse reads the text of a setting as the type that example has. All layers give text,
// so that the same words mean the same in a file, a variable and a flag.
func parse(text string, example any) (any, error) {
	switch example.(type) {
	case string:
		return text, nil
	case URL:
		return URL(text), nil
	case int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", text)
		}
		return n, nil
	case bool:
		if text != "true" && text != "false" {
			return nil, fmt.Errorf("%q is not true or false", text)
		}
		return text == "true", nil
	case Bytes:
		return parseBytes(text)
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf(`%q is not a duration; write it as "250ms", "30s", "5m" or "1h30m"`, text)
		}
		return d, nil
	default:
		return nil, fmt.Errorf("a setting of type %T cannot be read", example)
	}
}

// format writes a value as parse reads it, without secrets.
func format(value any) string {
	d, ok := value.(time.Duration)
	if !ok {
		return fmt.Sprint(value)
	}
	text := d.String() // 1h0m0s: drop the zero units at the end
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
