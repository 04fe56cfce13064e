"""The unmodified tritonclient against a running server: python triton_client.py HOST:PORT IMAGE"""

import sys
import time
import unittest
from typing import ClassVar

import numpy as np
import tritonclient.http as triton
from triton_case import SECOND, TritonCase
from tritonclient.utils import InferenceServerException


class TritonHttp(TritonCase):
    triton = triton
    address, photo_file = sys.argv[1:3]
    http_address = address
    client_options: ClassVar = {"concurrency": 4}

    def test_health(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready(self.model))

    def test_metadata(self):
        server = self.client.get_server_metadata()
        self.assertEqual(server["name"], "depthserve")
        self.assertIn("binary_tensor_data", server["extensions"])

        model = self.client.get_model_metadata(self.model)
        self.assertEqual(
            model["inputs"],
            [{"name": "image", "datatype": "UINT8", "shape": [-1, *self.shape]}],
        )
        self.assertEqual(
            [output["name"] for output in model["outputs"]], ["logits", "probabilities"]
        )
        version = model["versions"][0]
        self.assertEqual(self.client.get_model_metadata(self.model, version), model)

    def test_config(self):
        config = self.client.get_model_config(self.model)
        self.assertGreater(config["max_batch_size"], 0)
        self.assertEqual(config["input"][0]["dims"], list(self.shape))

    def test_binary_tensors(self):
        result = self.infer(self.pixels(1), request_id="r1")
        self.assertEqual(result.get_response()["id"], "r1")
        logits = result.as_numpy("logits")
        probabilities = result.as_numpy("probabilities")
        self.assertEqual(logits.shape, (1, len(self.labels)))
        skip = result.get_response()["parameters"]["sub_network"]
        expected = self.calibrated(logits, skip)
        np.testing.assert_allclose(probabilities, expected, rtol=1e-5)

    def test_json_tensors_give_what_binary_ones_give(self):
        values = self.random(2)
        pinned = {"skip": "F" * len(self.info["manifest"]["flags"])}
        binary = self.infer(self.tensor(values), parameters=pinned)
        plain = self.infer(
            self.tensor(values, binary_data=False),
            parameters=pinned,
            outputs=[triton.InferRequestedOutput("logits", binary_data=False)],
        )
        np.testing.assert_allclose(
            plain.as_numpy("logits"), binary.as_numpy("logits"), rtol=1e-4, atol=1e-4
        )

    def test_a_batch_keeps_its_order(self):
        values = self.random(11)  # more than fit into one batch of this server
        pinned = {"skip": "T" * len(self.info["manifest"]["flags"])}
        together = self.infer(self.tensor(values), parameters=pinned).as_numpy("logits")
        for index in (0, 5, 10):
            alone = self.infer(
                self.tensor(values[index : index + 1]), parameters=pinned
            )
            np.testing.assert_allclose(
                together[index], alone.as_numpy("logits")[0], rtol=1e-3, atol=1e-3
            )

    def test_encoded_image_and_classification(self):
        wanted = [triton.InferRequestedOutput("probabilities", class_count=3)]
        result = self.infer(self.photo(), outputs=wanted).as_numpy("probabilities")
        self.assertEqual(result.shape, (1, 3))
        value, index, label = result[0][0].decode().split(":")
        self.assertEqual(self.labels[int(index)], label)
        self.assertGreater(float(value), 1 / len(self.labels))

    def test_compressed_request(self):
        result = self.infer(self.pixels(1), request_compression_algorithm="gzip")
        self.assertEqual(result.as_numpy("logits").shape, (1, len(self.labels)))

    def test_timeout_drives_the_depth(self):
        tensor = self.pixels(1)

        def accuracy(timeout: float) -> float:
            answer = self.infer(tensor, timeout=int(timeout)).get_response()
            return answer["parameters"]["expected_accuracy"]

        # Where the deepest gains next to nothing over the tier below, either will do.
        enough = self.info["tiers"][-2]["accuracy"]
        # What time-out a busy machine meets with which tier is its own affair, so they are swept,
        # several times: the tight ones are refused, or run out in the queue.
        shallowest = 1.0
        for timeout in np.tile(np.geomspace(1_000, SECOND, 40), 20):
            try:
                shallowest = min(shallowest, accuracy(timeout))
            except InferenceServerException as error:
                self.assertIn(error.status(), ("503", "504"))
            if shallowest < enough:
                break
        self.assertLess(shallowest, enough, "shorter time-outs get shallower ones")
        # The sweep is load, which makes depth dear: so what is best after a pause counts.
        patient = 0.0
        for _ in range(5):
            time.sleep(3)
            patient = max(patient, accuracy(60 * SECOND))
            if patient >= enough:
                break
        self.assertGreaterEqual(patient, enough, "a minute is plenty")

    def test_hopeless_timeout_is_refused_with_what_would_work(self):
        error = self.refusal(self.pixels(1), timeout=1)
        self.assertEqual(error.status(), "503")
        self.assertIn("smallestBudgetMs", error.message())

    def test_skip_pins_the_sub_network(self):
        for tier in self.info["tiers"]:
            answer = self.infer(self.pixels(3), parameters={"skip": tier["skip"]})
            self.assertEqual(
                answer.get_response()["parameters"]["sub_network"], tier["skip"]
            )

    def test_min_accuracy(self):
        floor = self.info["tiers"][-1]["accuracy"]
        answer = self.infer(self.pixels(1), parameters={"min_accuracy": floor})
        self.assertGreaterEqual(
            answer.get_response()["parameters"]["expected_accuracy"], floor
        )
        error = self.refusal(self.pixels(1), parameters={"min_accuracy": 1.0})
        self.assertEqual(error.status(), "422")

    def test_errors(self):
        wrong_size = np.zeros((1, 5, 5, 3), dtype=np.uint8)
        self.assertIn("shape", self.refusal(self.tensor(wrong_size)).message())
        with self.assertRaises(InferenceServerException) as caught:
            self.client.infer("no-such-model", [self.pixels(1)])
        self.assertEqual(caught.exception.status(), "404")
        no_output = [triton.InferRequestedOutput("boxes")]
        self.assertEqual(
            self.refusal(self.pixels(1), outputs=no_output).status(), "400"
        )

    def test_statistics_count_images_and_batches(self):
        def stats():
            return self.client.get_inference_statistics(self.model)["model_stats"][0]

        before = stats()
        self.infer(self.pixels(9))
        after = stats()
        self.assertEqual(after["inference_count"] - before["inference_count"], 9)
        self.assertGreaterEqual(after["execution_count"] - before["execution_count"], 3)
        self.assertEqual(
            after["inference_stats"]["success"]["count"]
            - before["inference_stats"]["success"]["count"],
            1,
        )


unittest.main(argv=sys.argv[:1], verbosity=2)
