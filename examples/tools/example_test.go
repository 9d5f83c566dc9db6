package tools_test

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/earnorm/poolstack/examples/tools"
)

// The example builds Jaeger, which takes minutes the first time, and runs Jaeger.
func ExampleTool_Path() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	path, err := tools.Jaeger.Path(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = exec.CommandContext(ctx, path, "--collector.otlp.http.host-port=127.0.0.1:4318").Run()
}
