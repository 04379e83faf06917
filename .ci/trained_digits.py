"""What an installed wheel must do: train a network on the digits that come with scikit-learn, and save it."""

import sys
import tempfile
from pathlib import Path

from portnn import Network, Trainer, losses, metrics, nn, optim
from portnn.data import load_digits

data = load_digits()
mlp = nn.Sequential([nn.Flatten(), nn.Affine(64), nn.ReLU(), nn.Affine(10)])
trainer = Trainer(
    Network(mlp, input_shape=(8, 8), rng=0),
    losses.SoftmaxCrossEntropy(),
    optim.Adam(),
    metrics={"a": metrics.accuracy},
    rng=0,
)
trainer.fit(data.x_train, data.y_train, epochs=10, batch_size=32)
accuracy = trainer.evaluate(data.x_test, data.y_test)["a"]
with tempfile.TemporaryDirectory() as folder:
    trainer.network.save(Path(folder, "digits.safetensors"))
    same = Network.load(Path(folder, "digits.safetensors")).predict(data.x_test) == trainer.network.predict(data.x_test)
print(f"digits, ten epochs: {accuracy:.1%}")
sys.exit(0 if accuracy > 0.93 and same.all() else "at least 93 % and the same network from its file were expected")
