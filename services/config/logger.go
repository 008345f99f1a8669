package config

import (
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"
)

// Logger writes to standard error from the configured level on: lines for people on a terminal,
// JSON elsewhere, unless Log.Format says which. An unknown level counts as info.
func Logger(cfg Config) *zap.Logger {
	level, err := zapcore.ParseLevel(cfg.Log.Level)
	if err != nil {
		level = zapcore.InfoLevel
	}
	return zap.New(zapcore.NewCore(encoder(cfg.Log.Format), zapcore.Lock(os.Stderr), level))
}

func encoder(format string) zapcore.Encoder {
	if format == "console" || (format != "json" && term.IsTerminal(int(os.Stderr.Fd()))) {
		c := zap.NewDevelopmentEncoderConfig()
		c.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		return zapcore.NewConsoleEncoder(c)
	}
	c := zap.NewProductionEncoderConfig()
	c.TimeKey, c.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	c.EncodeDuration = zapcore.StringDurationEncoder
	return zapcore.NewJSONEncoder(c)
}
