// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package peers names the foreign Go programs of the integration tests, so that go.mod and go.sum pin them with
// everything that they are built from. Nothing of ours is written in Go.
package peers

import (
	_ "github.com/summerwind/h2spec/cmd/h2spec"
	_ "istio.io/istio/pkg/test/echo/cmd/client"
	_ "istio.io/istio/pkg/test/echo/cmd/server"
)
