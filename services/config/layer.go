package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"weir/pkg/failpoint"
)

// envPrefix starts the name of every environment variable of weir.
const envPrefix = "WEIR_"

// layer is what one source says: the text of each setting it gives, and where it stands.
type layer map[string]given

type given struct {
	text   string
	origin string // "weir.yaml:7", "WEIR_NATS_URL", "--nats", "running instance"
}

// envName is the variable of a setting: WEIR_POSTGRES_MAX_OPEN for postgres.max_open.
func envName(setting string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(setting, ".", "_"))
}

// envLayer reads the WEIR_ variables of environ (lines of NAME=value). WEIR_CONFIG names the file,
// WEIR_FAILPOINTS and WEIR_TEST_… belong to the tests; any other that is no setting is a problem.
func envLayer(environ, names []string) (layer, []string) {
	byVariable := make(map[string]string, len(names))
	variables := make([]string, len(names))
	for i, name := range names {
		variables[i] = envName(name)
		byVariable[variables[i]] = name
	}
	out, problems := layer{}, []string(nil)
	for _, line := range environ {
		variable, value, _ := strings.Cut(line, "=")
		if !strings.HasPrefix(variable, envPrefix) ||
			variable == fileVariable || variable == failpoint.Variable || strings.HasPrefix(variable, envPrefix+"TEST_") {
			continue
		}
		name, known := byVariable[variable]
		if !known {
			problems = append(problems, fmt.Sprintf("the environment variable %s is not known%s",
				variable, Suggest(variable, variables)))
			continue
		}
		out[name] = given{value, variable}
	}
	slices.Sort(problems)
	return out, problems
}

// flagLayer takes the flags that were given on the command line and stand for a setting.
func flagLayer(flags *pflag.FlagSet) layer {
	out := layer{}
	flags.Visit(func(f *pflag.Flag) {
		if name := f.Annotations[settingAnnotation]; len(name) == 1 {
			out[name[0]] = given{f.Value.String(), "--" + f.Name}
		}
	})
	return out
}
