package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Media types of the OCI image specification, version 1.
const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"
)

// descriptor points at a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// archive writes an image with one layer, one program in it, and that program as its entry point: an OCI image layout
// in a tar file, as `ctr images import` reads it.
func archive(args []string) error {
	var arguments []string
	flags := flag.NewFlagSet("archive", flag.ContinueOnError)
	output := flags.String("output", "", "the `file` to write")
	name := flags.String("name", "", "the image's `reference`")
	user := flags.String("user", "65532:65532", "who runs it, `UID:GID`")
	flags.Func("arg", "an argument of the entry point", func(value string) error {
		arguments = append(arguments, value)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *output == "" || *name == "" || flags.NArg() != 1 {
		return fmt.Errorf("--output, --name and one program are needed\n%s", usage)
	}
	program, err := os.ReadFile(flags.Arg(0))
	if err != nil {
		return err
	}
	entry := "/" + filepath.Base(flags.Arg(0))

	blobs := map[string][]byte{}
	layer, err := tarball(map[string][]byte{entry[1:]: program}, []string{entry[1:]}, 0o755)
	if err != nil {
		return err
	}
	layerBlob := keep(blobs, layerType, layer)
	config := keepJSON(blobs, configType, map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       map[string]any{"Entrypoint": append([]string{entry}, arguments...), "User": *user},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{layerBlob.Digest}},
	})
	manifest := keepJSON(blobs, manifestType, map[string]any{
		"schemaVersion": 2,
		"mediaType":     manifestType,
		"config":        config,
		"layers":        []descriptor{layerBlob},
	})
	// What containerd calls the image by; it does not complete it.
	manifest.Annotations = map[string]string{"io.containerd.image.name": *name}
	index, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     indexType,
		"manifests":     []descriptor{manifest},
	})
	if err != nil {
		return err
	}

	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": index}
	order := []string{"oci-layout", "index.json"}
	for _, blob := range []descriptor{layerBlob, config, manifest} {
		path := "blobs/sha256/" + blob.Digest[len("sha256:"):]
		files[path] = blobs[blob.Digest]
		order = append(order, path)
	}
	whole, err := tarball(files, order, 0o644)
	if err != nil {
		return err
	}
	return os.WriteFile(*output, whole, 0o644)
}

// keep puts a blob among the others and says how to point at it.
func keep(blobs map[string][]byte, mediaType string, content []byte) descriptor {
	sum := sha256.Sum256(content)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	blobs[digest] = content
	return descriptor{MediaType: mediaType, Digest: digest, Size: len(content)}
}

func keepJSON(blobs map[string][]byte, mediaType string, value any) descriptor {
	content, err := json.Marshal(value)
	if err != nil {
		// Maps of strings and numbers always encode.
		panic(err)
	}
	return keep(blobs, mediaType, content)
}

// tarball holds the files in that order. Without times, so that the same content has the same digest.
func tarball(files map[string][]byte, order []string, mode int64) ([]byte, error) {
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for _, path := range order {
		header := &tar.Header{Name: path, Mode: mode, Size: int64(len(files[path])), Format: tar.FormatUSTAR}
		if err := writer.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := writer.Write(files[path]); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}
